"""Uploads land whole, where they belong, and from whoever knows the token."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from blake3 import blake3

from mlassets.home import Home
from mlassets.receiving import NoToken, uploads
from mlassets.ui import web_server
from mlassets_tests.servers import free_port

TOKEN = "correct horse battery staple"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Uploads:
    """A server on a home of its own."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port

    def put(
        self, path: str, body: bytes = b"k\n1\n", headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("PUT", path, body, HEADERS if headers is None else headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    @property
    def landed(self) -> dict[str, bytes]:
        zone = self.home / "landing"
        return {str(path.relative_to(zone)): path.read_bytes() for path in zone.rglob("*") if path.is_file()}


@contextmanager
def serving(home: Path, monkeypatch: pytest.MonkeyPatch, *, new_sources: bool = False) -> Iterator[Uploads]:
    monkeypatch.setenv("MLASSETS_UPLOAD_TOKEN", TOKEN)
    monkeypatch.setenv("MLASSETS_UPLOAD_LIMIT", "100kB")
    (home / "sources").mkdir(parents=True, exist_ok=True)
    (home / "sources" / "flights.yaml").write_text("description: Departures\n")
    (home / "sources" / "lists.yaml").write_text('files: "landing/lists/2013/*.csv"\n')
    port = free_port()
    with web_server(uploads(Home(home=str(home)), new_sources=new_sources), "127.0.0.1", port):
        yield Uploads(home, port)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    with serving(tmp_path, monkeypatch) as running:
        yield running


def test_a_file_lands_as_it_was_sent_under_any_name(server: Uploads) -> None:
    names = ["1.csv", "deep/er/1.csv", "ünï 日本.csv", "a#b?.csv", "%2F.csv", "🙂.csv"]
    for name in names:
        status, text = server.put(f"/flights/{quote(name)}", name.encode())
        assert status == 201, text
        assert str(blake3(name.encode()).hexdigest()) in text
    assert server.landed == {f"flights/{name}": name.encode() for name in names}
    assert server.put("/flights/1.csv", b"other")[0] == 201
    assert server.landed["flights/1.csv"] == b"other"


def test_nothing_lands_without_the_token(server: Uploads) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
    ):
        status, text = server.put("/flights/1.csv", headers=headers)
        assert status == 401
        assert TOKEN not in text
    assert server.landed == {}


def test_nothing_larger_than_the_limit_lands(server: Uploads) -> None:
    assert server.put("/flights/fits.csv", b"x" * 100_000)[0] == 201
    status, text = server.put("/flights/large.csv", b"x" * 100_001)
    assert (status, "100,000" in text) == (413, True)
    # What says no length is counted as it comes.
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("PUT", "/flights/chunks.csv", iter([b"x" * 60_000] * 2), HEADERS, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert set(server.landed) == {"flights/fits.csv"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/flights/..%2f..%2fevil.csv", "no name"),
        ("/flights/../../evil.csv", ""),
        ("/flights//etc/evil.csv", "no name"),
        ("/flights/a/../../evil.csv", ""),
        ("/flights/.hidden.csv", "starts with a dot"),
        ("/flights/1.csv.part", "temporary"),
        ("/flights/line%0Abreak.csv", ""),
        ("/flights/", "no name"),
        ("/flights/" + "x" * 300, "longer"),
        ("/lists/1.xlsx", "none of them"),
        ("/nowhere/1.csv", "no source"),
        ("/..%2f..%2fx/1.csv", "no source"),
    ],
)
def test_nothing_lands_where_it_does_not_belong(
    server: Uploads, tmp_path: Path, path: str, words: str
) -> None:
    status, text = server.put(path)
    assert status in (400, 404), text
    assert words in text
    assert server.landed == {}
    assert not list(tmp_path.rglob("*evil*"))


def test_a_file_lands_in_the_folder_that_its_source_is_read_from(server: Uploads) -> None:
    assert server.put("/lists/1.csv")[0] == 201
    assert set(server.landed) == {"lists/2013/1.csv"}


def test_a_file_that_breaks_off_does_not_land(server: Uploads) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(
            f"PUT /flights/half.csv HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Length: 1000\r\n\r\nk\n1\n".encode()
        )
    assert server.put("/flights/whole.csv")[0] == 201
    until = list((server.home / "landing").rglob("*.part"))
    assert set(server.landed) - {str(path.relative_to(server.home / "landing")) for path in until} == {
        "flights/whole.csv"
    }


def test_a_server_without_a_token_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLASSETS_UPLOAD_TOKEN", raising=False)
    with pytest.raises(NoToken, match="MLASSETS_UPLOAD_TOKEN"):
        uploads(Home(home=str(tmp_path)))
    monkeypatch.setenv("MLASSETS_UPLOAD_TOKEN", " ")
    with pytest.raises(NoToken):
        uploads(Home(home=str(tmp_path)))


def test_new_sources_are_taken_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, monkeypatch, new_sources=True) as server:
        assert server.put("/fresh/1.csv")[0] == 201
        assert server.put("/Not%20A%20Name/1.csv")[0] == 400
        assert set(Home(home=str(tmp_path)).sources()) == {"flights", "lists", "fresh"}
    assert [path.name for path in (tmp_path / "landing").iterdir()] == ["fresh"]
