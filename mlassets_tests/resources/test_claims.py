"""Claims beside a Thing, and versions that share another's files: on every lake and catalog."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyarrow as pa
import pytest

from mlassets_tests.places import Place
from resources.releases import challenger, challengers, champion, champions
from resources.things import DamagedThing, Draft, Partition, UnknownThing

LATE, TREES = Partition.project("late"), Partition.project("trees")


def draft(number: int, alias: str = "champion") -> Draft:
    return Draft(
        dataset=pa.table({"number": [number]}), artifacts={"bundle.zip": b"x"}, labels={"alias": alias}
    )


def test_of_many_claims_at_once_all_learn_the_same_first(place: Place) -> None:
    thing = place.open().commit("review", LATE, draft(1))
    stores = [place.open() for _ in range(4)]
    assert stores[0].claimed(thing.id, "decided") is None
    with ThreadPoolExecutor(4) as pool:
        told = list(
            pool.map(lambda pair: pair[1].claim(thing.id, "decided", b"%d" % pair[0]), enumerate(stores))
        )
    assert len(set(told)) == 1
    assert told[0] in (b"0", b"1", b"2", b"3")
    assert stores[0].claimed(thing.id, "decided") == told[0]
    assert stores[0].claim(thing.id, "other", b"mine") == b"mine"
    assert stores[0].get(thing.id) == thing
    with pytest.raises(UnknownThing):
        stores[0].claim("nothing", "decided", b"")


def test_a_version_that_shares_anothers_files_keeps_them_and_outlives_the_catalog(place: Place) -> None:
    store = place.open()
    first = store.commit("publish", LATE, draft(1))
    store.commit("publish", LATE, draft(2))
    shared = store.commit(
        "publish",
        LATE,
        Draft(files=dict(first.files), schema=first.schema, artifacts=dict(first.artifacts)),
    )
    assert [one.path for one in shared.components] == [one.path for one in first.components]
    assert (shared.data_version, shared.rows, shared.schema) == (first.data_version, 1, first.schema)
    store.claim(first.id, "decided", b"{}")
    assert store.sweep(timedelta(0)) == []
    assert store.verify_all().damaged == ()
    before = store.history()
    store.rebuild()
    assert store.history() == before
    assert shared.table().equals(first.table())
    place.replace(first.artifacts["bundle.zip"].path, b"y")
    with pytest.raises(DamagedThing):
        shared.artifact("bundle.zip")
    assert len(store.verify(shared)) == 1


def test_champion_and_challenger_are_told_from_the_labels(place: Place) -> None:
    store = place.open()
    assert (champion(store, "publish", LATE), challenger(store, "publish", LATE)) == (None, None)
    one, two = store.commit("publish", LATE, draft(1)), store.commit("publish", LATE, draft(2, "challenger"))
    other = store.commit("publish", TREES, draft(3, "challenger"))
    assert (champion(store, "publish", LATE), challenger(store, "publish", LATE)) == (one, two)
    assert champion(store, "publish", TREES) is None
    assert champions(store, "publish") == {LATE: one}
    assert challengers(store, "publish") == {LATE: two, TREES: other}
    store.retire(two.id, "no longer wanted")
    assert challengers(store, "publish") == {TREES: other}
    store.retire(one.id, "no longer wanted")
    assert champions(store, "publish") == {}
