"""`mlassets ui`: Dagster on a home, and its Things and reports served beside it, read-only, until one of them ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from mlassets.runs import lay_out
from resources.errors import MlassetsError
from resources.settings import Settings
from resources.store import Store
from resources.things import Thing

if TYPE_CHECKING:
    from starlette.applications import Starlette

REPORTS_LISTED = 100
_ENDING = (signal.SIGINT, signal.SIGTERM)
_LOCAL = ("127.0.0.1", "::1", "localhost")
_GRACE_SECONDS = 20.0
_THING_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

# A report's own policy allows its own scripts alone, by their hashes. This one holds for whatever is served: no page
# loads or sends anything, and each has an origin of its own, so that it cannot read another page either.
_POLICY = (
    "sandbox allow-scripts allow-downloads allow-popups; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_INDEX = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reports</title>
<style>{{ style }}</style>
</head>
<body>
<p><a href="/things">Things</a></p>
<h1>Reports</h1>
{% if rows %}<p>The newest reports, one for each judged version.</p>
<div class="wide"><table>
<thead><tr><th>Version</th><th>Created (UTC)</th><th>Step</th><th>Partition</th><th class="number">Block</th>
<th class="number">Warn</th><th class="number">Passed</th></tr></thead>
<tbody>
{% for row in rows %}<tr><td><a href="/reports/{{ row.id }}">{{ row.id }}</a></td><td>{{ row.created }}</td>
<td>{{ row.step }}{% if row.evidence %} (<a href="{{ row.evidence }}">evidence</a>){% endif %}</td>
<td>{{ row.partition }}</td><td class="number">{{ row.counts.blocking or "" }}</td>
<td class="number">{{ row.counts.warning or "" }}</td><td class="number">{{ row.counts.passed }}</td></tr>
{% endfor %}</tbody></table></div>
{% else %}<p>Nothing was judged yet.</p>{% endif %}
</body>
</html>
"""


class PortTaken(MlassetsError):
    """Port 3000 of 127.0.0.1 is in use; choose another one with --port."""


def serve(settings: Settings, host: str, port: int, tell: Callable[[str], None] = lambda text: None) -> int:
    """Run `dagster dev` on a home with a report server on the next port, until a signal or Dagster ends it.

    Args:
        settings: The home's settings.
        host: Address to listen on.
        port: Dagster's port; reports are served on the next one.
        tell: Called with the addresses, once they are known.

    Returns:
        0 if it was ended by Ctrl-C or SIGTERM, else Dagster's exit code.

    Raises:
        PortTaken: If another process listens on one of the ports.
    """
    lay_out(settings)
    _require_free(host, port, port + 1)
    beside = f"http://{_in_url(host)}:{port + 1}"
    dagster = settings.dagster_url or f"http://{_in_url(host)}:{port}"
    environment = {
        **os.environ,
        "MLASSETS_HOME": str(settings.home),
        "MLASSETS_REPORTS_URL": f"{beside}/reports",
        "MLASSETS_THINGS_URL": f"{beside}/things",
        "MLASSETS_DAGSTER_URL": dagster,
        "DAGSTER_HOME": str(settings.dagster_home),
    }
    # `dagster dev` notes on each start that another command is meant to follow it; that one needs another package.
    quiet = ["-W", "ignore:Function `dev_command` is superseded"]
    command = [sys.executable, *quiet, "-m", "dagster", "dev", "-h", host, "-p", str(port)]
    command += ["-w", str(settings.dagster_home / "workspace.yaml")]
    with report_server(Store.open(settings), host, port + 1, dagster):
        tell(
            f"Dagster on http://{_in_url(host)}:{port}, Things on {beside}/things, reports on {beside}/reports; "
            "Ctrl-C ends all of them."
        )
        return run_until_signal(command, environment)


def serve_things(
    settings: Settings,
    host: str,
    port: int,
    query: str = "",
    tell: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the pages of a home's Things and their reports, without Dagster, until a signal.

    Args:
        settings: The home's settings.
        host: Address to listen on.
        port: Port to listen on.
        query: What the first page searches for.
        tell: Called with the address of the first page, once it answers.

    Raises:
        PortTaken: If another process listens on the port.
    """
    from mlassets.pages.things import Asked

    _require_free(host, port)
    with _until_asked() as asked, report_server(Store.open(settings), host, port, settings.dagster_url):
        tell(f"http://{_in_url(host)}:{port}{Asked(query=query).link()}")
        asked.wait()


def run_until_signal(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command in a process group of its own; SIGINT or SIGTERM ends the group, the whole of it.

    Dagster's children do not hear Ctrl-C by themselves, and `dagster dev` leaves them behind on SIGTERM.
    """
    # Set before the start: a child never inherits a handler, but it would inherit a signal that is ignored.
    with _until_asked() as asked:
        process = subprocess.Popen(command, env=environment, process_group=0)  # noqa: S603 - our own interpreter
        try:
            while process.poll() is None and not asked.wait(0.2):
                pass
            if asked.is_set():
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_SECONDS)
                return 0
            return process.returncode or 0
        finally:
            _end_group(process)


@contextmanager
def _until_asked() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set, in place of what they do otherwise."""
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, ask) for number in _ENDING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process's group: runs, code servers and whatever they have started."""
    for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 0.5)):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                os.killpg(process.pid, number)
            except (ProcessLookupError, PermissionError):
                break
            process.poll()
            time.sleep(0.1)
    process.wait()


def reports_app(store: Store, host: str = "127.0.0.1", dagster: str | None = None) -> "Starlette":
    """Return the web application that serves Things and reports, and nothing else.

    `/reports` lists the newest, `/reports/<id>` is the newest report on a Thing, and `/reports/<id>/<name>` one of
    its artifacts that are pages, as a review's `evidence.html`. For `/things` see `mlassets.pages.serving`.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
    from starlette.routing import Route

    from mlassets.pages.serving import routes
    from mlassets.pages.thing import Places

    def found(page: str | bytes | None) -> Response:
        if page is None:
            return PlainTextResponse("There is no such report.", status_code=404, headers=_HEADERS)
        return HTMLResponse(page, headers=_HEADERS)

    def start(request: Request) -> Response:
        return RedirectResponse("/things", headers=_HEADERS)

    def index(request: Request) -> Response:
        return found(index_page(store))

    def report(request: Request) -> Response:
        thing = _thing(store, request.path_params["thing_id"])
        return found(store.report(thing.id) if thing else None)

    def artifact(request: Request) -> Response:
        thing, name = _thing(store, request.path_params["thing_id"]), request.path_params["name"]
        known = thing is not None and name.endswith(".html") and name in thing.artifacts
        return found(thing.artifact(name) if thing and known else None)

    # A page of elsewhere must not read reports through a name of its own that leads here.
    hosts = [*_LOCAL, "[::1]", _in_url(host)] if host in _LOCAL else ["*"]
    return Starlette(
        routes=[
            Route("/", start),
            Route("/reports", index),
            Route("/reports/{thing_id}", report),
            Route("/reports/{thing_id}/{name}", artifact),
            *routes(store, Places(dagster)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )


def index_page(store: Store) -> str:
    """Return a page that lists the newest reports."""
    import jinja2
    import markupsafe

    from mlassets.quality.report import style
    from mlassets.summaries import counted

    rows: list[dict[str, Any]] = [
        {
            "id": thing.id,
            "created": f"{thing.created_at:%Y-%m-%d %H:%M:%S}",
            "step": thing.step,
            "partition": thing.partition.key,
            "evidence": f"/reports/{thing.id}/evidence.html" if "evidence.html" in thing.artifacts else "",
            "counts": counted(store.verdicts(thing.id)),
        }
        for thing in store.history(limit=REPORTS_LISTED)
        if store.report_path(thing.id) is not None
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    ours = markupsafe.Markup(style())  # noqa: S704 - a file of ours
    return environment.from_string(_INDEX).render(rows=rows, style=ours)


def _thing(store: Store, thing_id: str) -> Thing | None:
    """Return the Thing of an id that anybody may have typed."""
    if not _THING_ID.fullmatch(thing_id):
        return None
    try:
        return store.get(thing_id.lower())
    except MlassetsError:
        return None


@contextmanager
def report_server(store: Store, host: str, port: int, dagster: str | None = None) -> Iterator[None]:
    """Serve Things and reports from a thread of this process."""
    with web_server(reports_app(store, host, dagster), host, port):
        yield


@contextmanager
def serving_until_asked(app: "Starlette", host: str, port: int) -> Iterator[tuple[str, threading.Event]]:
    """Serve an application; yield its address, and the event that a signal to end it sets.

    Raises:
        PortTaken: If another process listens on the port.
    """
    _require_free(host, port)
    with _until_asked() as asked, web_server(app, host, port):
        yield f"http://{_in_url(host)}:{port}", asked


@contextmanager
def web_server(app: "Starlette", host: str, port: int) -> Iterator[None]:
    """Serve an application from a thread of this process."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off"))
    # Signals are for the main thread to handle.
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - chosen by whoever serves others than this machine
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _require_free(host: str, *ports: int) -> None:
    for port in ports:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                both = " (Dagster takes that one, Things and reports the next)" if len(ports) > 1 else ""
                raise PortTaken(
                    f"cannot listen on port {port} of {host}: {error.strerror}; choose another with --port{both}"
                ) from None
