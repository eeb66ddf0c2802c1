"""Servers that tests share: started when a test first asks for one, stopped when pytest ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlassets_tests.places import Place
from mlassets_tests.servers import Keys, PostgresServer, S3Server
from resources.settings import Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make soak` do more of what `make test` does."""
    group = parser.getgroup("soak")
    group.addoption("--kills", type=int, default=430, help="How many commits are killed at random times.")
    group.addoption(
        "--commits", type=int, default=8, help="Commits of each of 8 processes, where these take longest."
    )


# What waits for a daemon or works on real data for minutes: begun first, so that no core is idle in the end.
LONGEST = ("test_scenario", "test_demo", "test_ui", "test_end_to_end", "test_bad_input", "test_kills")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave the order within files as it is."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server without any bucket."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an empty S3 bucket, with the environment that makes every AWS client find it."""
    for name, value in Keys().environment(s3_server.endpoint).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    yield s3_server.make_bucket()
    s3_server.forget()


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database."""
    name = postgres_server.make_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=["folder", "S3"])
def lake_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty lake: a local folder, then a prefix on S3."""
    if request.param == "folder":
        return str(tmp_path / "lake")
    return f"s3://{request.getfixturevalue('bucket')}/some/prefix"


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty catalog: in SQLite, then in PostgreSQL."""
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path}/catalog.db"
    return str(request.getfixturevalue("database"))


@pytest.fixture
def place(lake_uri: str, catalog_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """An empty home, with every kind of lake and every kind of catalog."""
    environment = {}
    if lake_uri.startswith("s3://"):
        server: S3Server = request.getfixturevalue("s3_server")
        environment = Keys().environment(server.endpoint)
    return Place(Settings(home=tmp_path, lake=lake_uri, catalog=catalog_url), environment)
