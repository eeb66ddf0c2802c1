"""`mlassets ui`: Dagster on a home, and its reports served beside it, read-only, until one of them ends."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlassets.runs import lay_out
from resources.settings import Settings
from resources.things import Store

if TYPE_CHECKING:
    from starlette.applications import Starlette


def serve(settings: Settings, host: str, port: int) -> int:
    """Run `dagster dev` on a home with a report server on the next port; return Dagster's exit code."""
    lay_out(settings)
    url = f"http://{host}:{port + 1}/reports"
    environment = {
        **os.environ,
        "MLASSETS_HOME": str(settings.home),
        "MLASSETS_REPORTS_URL": url,
        "DAGSTER_HOME": str(settings.dagster_home),
    }
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "-m",
        "mlassets.definitions",
        "-h",
        host,
        "-p",
        str(port),
    ]
    with report_server(Store.open(settings), host, port + 1):
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own interpreter
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has sent Ctrl-C to Dagster too; it shuts its own children down.
            return process.wait()


def reports_app(store: Store) -> "Starlette":
    """Return the web application that serves `/reports/<id of a Thing>`."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    def page(request: Request) -> Response:
        path = store.report_path(request.path_params["thing_id"])
        if path is None:
            return PlainTextResponse("There is no report on a Thing of this id.", status_code=404)
        return Response(Path(path).read_bytes(), media_type="text/html")

    return Starlette(routes=[Route("/reports/{thing_id}", page)])


@contextmanager
def report_server(store: Store, host: str, port: int) -> Iterator[None]:
    """Serve reports from a thread of this process."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(reports_app(store), host=host, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)
