"""A web server that answers as a test says, in a thread."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the server says at a path.

    Attributes:
        body: The bytes.
        status: The status.
        headers: More headers.
        says: Length that is said, if another than that of the body; less than 0: none.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    says: int | None = None


class Web:
    """The server: answers by path, and the requests that came, as `METHOD /path`."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[Any], Answer]] = {}
        self.asked: list[str] = []
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["Web"]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(f"{self.command} {self.path}")
                found = web.answers.get(self.path.partition("?")[0], Answer(status=404))
                answer = found(self) if callable(found) else found
                self.send_response(answer.status)
                size = len(answer.body) if answer.says is None else answer.says
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if size >= 0:
                    self.send_header("Content-Length", str(size))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(answer.body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
