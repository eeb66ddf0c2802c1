"""A PostgreSQL that restarts is waited for; one that stays away is told of, and what was committed is found later."""

import re
import time
from collections.abc import Iterator

import pytest

from mlassets_tests.places import Place
from mlassets_tests.resources.crowd import CROWD, EWR, assert_whole, commit_many, draft, numbers
from mlassets_tests.servers import PostgresServer
from resources import lake
from resources.catalog import CatalogError
from resources.errors import MlassetsError
from resources.lake import LakeError
from resources.store import Store
from resources.verdicts import Verdict

pytestmark = pytest.mark.parametrize(
    ("lake_uri", "catalog_url"), [("folder", "PostgreSQL")], indirect=True, ids=["folder-PostgreSQL"]
)
FINE = Verdict("fine", "passed", "ERROR", 1.0, "<= 1", 1, "", {})


@pytest.fixture
def running(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """The server; it is running again after the test, whatever happened."""
    yield postgres_server
    if not postgres_server.answers():
        postgres_server.start()


@pytest.mark.parametrize(
    "point", ["components written", "manifest written", "before row commit", "row written"]
)
def test_a_restart_at_any_point_of_a_commit_is_waited_out(
    place: Place, running: PostgresServer, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    store = place.open()
    before = store.commit("model", EWR, draft(1))
    restarts: list[str] = []

    def restart(here: str) -> None:
        if here == point and not restarts:
            restarts.append(here)
            running.stop_at_once()
            running.start()

    monkeypatch.setattr(lake, "on_reached", restart)
    made = store.commit("model", EWR, draft(2))
    store.record_verdicts(made.id, "run", [FINE], b"<p>")
    assert restarts == [point]
    assert store.history() == [made, before]
    assert store.verdicts(made.id) == [FINE]
    assert store.sync().things == 0
    assert_whole(store, [before, made])


def test_no_error_reaches_writers_while_it_restarts_again_and_again(
    place: Place, running: PostgresServer
) -> None:
    place.open()
    children = [CROWD.Process(target=commit_many, args=(place, worker, 60)) for worker in range(3)]
    for child in children:
        child.start()
    for _ in range(4):
        time.sleep(0.3)
        running.stop_at_once()
        running.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 3
    store = place.open()
    assert sorted(numbers(store)) == sorted(
        worker * 1000 + number for worker in range(3) for number in range(0, 60, 2)
    )
    history = store.history()
    assert len(history) == 180
    assert store.sync().things == 0
    assert_whole(store, history[::10])


def test_while_it_is_away_errors_say_so_and_afterwards_everything_is_found(
    place: Place, running: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = place.settings.model_copy(update={"patience": 0.3})
    store = Store.open(impatient)
    before = store.commit("model", EWR, draft(1))

    def stop(point: str) -> None:
        if point == "manifest written":
            running.stop_at_once()

    def refused(work: object) -> str:
        with pytest.raises(CatalogError) as raised:
            work()  # type: ignore[operator]
        return str(raised.value)

    monkeypatch.setattr(lake, "on_reached", stop)
    told = refused(lambda: store.commit("model", EWR, draft(2)))
    monkeypatch.undo()
    for text in (
        told,
        refused(lambda: store.latest("model", EWR)),
        refused(lambda: store.commit("model", EWR, draft(3))),
        refused(lambda: Store.open(impatient)),
    ):
        assert f"127.0.0.1:{running.port}/tests_" in text
        assert re.search("cannot be (written|read|opened|laid out)", text)
        assert "pg_isready" in text
    running.start()
    assert store.history() == [before]
    assert store.sync().things == 1
    assert numbers(store) == [1, 2]
    store.commit("model", EWR, draft(3))
    assert numbers(Store.open(impatient)) == [1, 2, 3]
    assert_whole(store, store.history())


def test_a_password_is_shown_in_no_message(place: Place, running: PostgresServer) -> None:
    url = place.settings.catalog.replace("tests@", "tests:hush-hush@").replace(str(running.port), "1")
    with pytest.raises(MlassetsError) as raised:
        Store.open(place.settings.model_copy(update={"catalog": url, "patience": 0.1}))
    assert "hush-hush" not in str(raised.value)
    assert not isinstance(raised.value, LakeError)
