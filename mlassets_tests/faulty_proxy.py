"""A proxy in front of an S3 server that does to requests what networks and overloaded servers do, as it is told."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

_REPLY_HEADERS = {"connection", "transfer-encoding", "keep-alive", "content-length", "server", "date"}


@dataclass(frozen=True)
class Slow:
    """Wait before the request is passed on."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """Answer with an error of S3; the server never sees the request."""

    status: int = 503
    code: str = "SlowDown"


@dataclass(frozen=True)
class CutRequest:
    """Pass on so many bytes of the request's body, then cut the connections on both sides."""

    after: int


@dataclass(frozen=True)
class CutResponse:
    """Let the server do its work, then cut the connection after so many bytes of the response's body."""

    after: int


@dataclass(frozen=True)
class LoseResponse:
    """Let the server do its work, then cut the connection without a word of response."""


@dataclass(frozen=True)
class Refuse:
    """Cut the connection as soon as the request is there."""


Fault = Slow | Reply | CutRequest | CutResponse | LoseResponse | Refuse


@dataclass
class _Plan:
    fault: Fault
    times: float
    method: str
    containing: str
    skip: int


@dataclass(frozen=True)
class Passed:
    """One request that came in: what it was, and the bytes of body that went up and came down."""

    method: str
    path: str
    up: int
    down: int
    fault: Fault | None


@dataclass
class FaultyProxy:
    """Passes everything on to a port of this machine, except for what `plan` says.

    Attributes:
        upstream: The port of the server.
        passed: All requests so far, in the order in which they ended.
    """

    upstream: int
    passed: list[Passed] = field(default_factory=list)
    port: int = 0
    _plans: list[_Plan] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _server: "_Server | None" = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bytes_up(self) -> int:
        return sum(one.up for one in self.passed)

    @property
    def bytes_down(self) -> int:
        return sum(one.down for one in self.passed)

    def plan(
        self, fault: Fault, times: float = 1, *, method: str = "", containing: str = "", skip: int = 0
    ) -> None:
        """Do `fault` to the next `times` requests (`math.inf`: to all) of a method whose path and query hold a text.

        Of several plans for a request, the first one made counts. The first `skip` such requests are spared.
        """
        with self._lock:
            self._plans.append(_Plan(fault, times, method, containing, skip))

    def heal(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._plans.clear()

    def forget(self) -> None:
        """Count requests and bytes from nothing again."""
        self.passed.clear()

    def _fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for plan in self._plans:
                if plan.times > 0 and plan.method in ("", method) and plan.containing in path:
                    if plan.skip:
                        plan.skip -= 1
                        continue
                    plan.times -= 1
                    return plan.fault
        return None

    def up(self) -> None:
        """Listen, on the same port as before if it was down."""
        self._server = _Server(self)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Cut all connections and refuse new ones."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def running(self) -> Iterator["FaultyProxy"]:
        """Listen while the block runs."""
        self.up()
        try:
            yield self
        finally:
            self._stopping.set()
            self.down()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", proxy.port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: cut connections are what this is for."""


class _Cut(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        cast("_Server", self.server).connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        cast("_Server", self.server).connections.discard(self.request)
        super().finish()

    def log_message(self, *_args: object) -> None:
        pass

    def _serve(self) -> None:
        proxy = cast("_Server", self.server).proxy
        fault = proxy._fault_for(self.command, self.path)
        self.up, self.counted = 0, False
        try:
            self._handle(fault, proxy)
        except (_Cut, OSError, HTTPException):
            self._count(proxy, fault, 0)
            self.close_connection = True
            # Linger for no time: a reset, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def _count(self, proxy: FaultyProxy, fault: Fault | None, down: int) -> None:
        """Count a request once, before the client can know that it has ended."""
        if not self.counted:
            proxy.passed.append(Passed(self.command, self.path, self.up, down, fault))
        self.counted = True

    def _handle(self, fault: Fault | None, proxy: FaultyProxy) -> None:
        if isinstance(fault, Refuse):
            raise _Cut
        body = self._body()
        self.up = len(body)
        if isinstance(fault, Slow) and proxy._stopping.wait(fault.seconds):
            raise _Cut
        if isinstance(fault, Reply):
            self._count(proxy, fault, 0)
            self._answer_with(fault)
            return
        server = HTTPConnection("127.0.0.1", proxy.upstream, timeout=60)
        try:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    server.putheader(name, value)
            server.endheaders()
            if isinstance(fault, CutRequest):
                server.send(body[: fault.after])
                raise _Cut
            server.send(body)
            reply = server.getresponse()
            content = reply.read()
        finally:
            server.close()
        if isinstance(fault, LoseResponse):
            raise _Cut
        self.send_response_only(reply.status, reply.reason)
        for name, value in reply.getheaders():
            if name.lower() not in _REPLY_HEADERS:
                self.send_header(name, value)
        length = reply.headers.get("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        if isinstance(fault, CutResponse):
            content = content[: fault.after]
        self._count(proxy, fault, len(content))
        self.end_headers()
        self.wfile.write(content)
        if isinstance(fault, CutResponse):
            self.wfile.flush()
            # A reset at once could overtake the bytes.
            time.sleep(0.02)
            raise _Cut

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        raw = b""
        while True:
            line = self.rfile.readline()
            size = int(line.split(b";")[0], 16)
            raw += line + self.rfile.read(size) + self.rfile.readline()
            if size == 0:
                return raw

    def _answer_with(self, fault: Reply) -> None:
        content = (
            f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{fault.code}</Code>'
            f"<Message>as planned</Message></Error>"
        ).encode()
        self.send_response_only(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
