"""The S3 server of the tests, as a process of its own: moto, everything in memory, on a free port of loopback."""

import io
import logging
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


class OneConditionalPutAtATime:
    """S3 decides atomically which of two conditional writers comes first; moto looks and then writes."""

    def __init__(self, app: Callable[[dict[str, Any], Any], Iterable[bytes]]) -> None:
        self.app = app
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ or "CONTENT_LENGTH" not in environ:
            return self.app(environ, start_response)
        # Nobody waits for a writer whose bytes do not arrive.
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        with self.lock:
            return self.app(environ, start_response)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Tests cut connections, which werkzeug would report at length.
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    MotoRequestHandler.disable_nagle_algorithm = True
    app = OneConditionalPutAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
