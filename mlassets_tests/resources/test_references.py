"""A Thing is found by whatever people call it; what means several or none is told with what was meant."""

from pathlib import Path

import pytest

from resources.references import SHORTEST, AmbiguousThing, BadReference, parse_address
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing, UnknownThing

EWR = Partition.segment("late-flights", "EWR")


@pytest.fixture
def store(tmp_path: Path, catalog_url: str) -> Store:
    return Store.open(Settings(home=tmp_path, catalog=catalog_url))


def upload(store: Store, name: str) -> Thing:
    return store.commit("uploads", Partition({"name": name}), Draft())


def test_any_unique_beginning_of_the_id_or_of_its_last_group_is_enough(store: Store) -> None:
    made = [store.commit("model", EWR, Draft()) for _ in range(5)]
    for thing in made:
        assert store.get(thing.id) == store.get(thing.id.upper()) == thing
        assert store.get(thing.short_id) == store.get(thing.id[24:30]) == store.get(thing.id[24:]) == thing
        assert store.get(thing.id[:-2]) == thing
    with pytest.raises(UnknownThing, match="no Thing has the id"):
        store.get(made[0].id[24 : 24 + SHORTEST - 1])


def test_an_ambiguous_reference_lists_whom_it_may_mean(store: Store) -> None:
    made = [store.commit("model", EWR, Draft()) for _ in range(3)]
    with pytest.raises(AmbiguousThing, match="Give more of the id") as told:
        store.get(made[0].id[:6])
    assert all(thing.id in str(told.value) for thing in made)
    assert "model of late-flights|EWR" in str(told.value)
    upload(store, made[0].short_id)
    with pytest.raises(AmbiguousThing, match=made[0].id):
        store.get(made[0].short_id)
    assert store.get(f"uploads:{made[0].short_id}").step == "uploads"


def test_a_name_means_its_newest_version_and_a_number_one_of_them(store: Store) -> None:
    first, second, third = (upload(store, "weather split") for _ in range(3))
    assert store.get("weather split") == third
    assert [store.get(f"weather split@{number}") for number in (1, 2, 3)] == [first, second, third]
    assert [store.get(f"weather split@{number}") for number in (-1, -2, -3)] == [third, second, first]
    store.retire(third.id, "wrong")
    assert store.get("weather split") == store.get("uploads:weather split") == second
    assert store.get("weather split@3").retired_at is not None
    with pytest.raises(UnknownThing):
        store.get("weather split@4")
    with pytest.raises(BadReference, match="the first is weather split@1"):
        store.get("weather split@0")
    with pytest.raises(UnknownThing, match=r"Did you mean weather split\?"):
        store.get("weather splits")


@pytest.mark.parametrize("name", ["a:b", "a@2", "50%|x", "…", "é 'quoted\" $x", "x" * 300, "abcdef", "a..."])
def test_any_name_is_found_again(store: Store, name: str) -> None:
    upload(store, "other")
    made = upload(store, name)
    assert store.get(name) == store.get(f"uploads:{name}") == store.get(f"{name}@1") == made


def test_a_step_and_partition_mean_their_newest_version(store: Store) -> None:
    first, second = (store.commit("model", EWR, Draft()) for _ in range(2))
    whole = store.commit("review", Partition.project("late-flights"), Draft())
    assert store.get("model:late-flights|EWR") == store.get("model:late-flights|EWR@2") == second
    assert store.get("model:late-flights|EWR@1") == store.get("model:late-flights|EWR@-2") == first
    assert store.get("review:late-flights") == whole
    with pytest.raises(UnknownThing, match=r"Did you mean late-flights\|EWR\?"):
        store.get("model:late-flight|EWR")


def test_an_address_means_the_thing_wherever_it_was_copied_from(store: Store) -> None:
    made = store.commit("model", EWR, Draft())
    assert store.get(f"mlassets://team/{made.id}#model.skops") == made
    assert parse_address(f"mlassets://s3%3A%2F%2Fbucket%2Fa/{made.id}#a%23b") == (
        "s3://bucket/a",
        made.id,
        "a#b",
    )
    for wrong in ("mlassets://", "mlassets://team", "mlassets:///", "mlassets://team/a/b"):
        with pytest.raises(BadReference, match="no address"):
            store.get(wrong)


@pytest.mark.parametrize("wrong", ["", "\0", "a\0b", "\ud800"])
def test_what_can_name_nothing_is_told(store: Store, wrong: str) -> None:
    with pytest.raises(BadReference, match="names no Thing"):
        store.get(wrong)


def test_a_hostile_reference_finds_nothing(store: Store) -> None:
    store.commit("model", EWR, Draft())
    for hostile in (
        "%",
        "_",
        "' OR 1=1 --",
        "0%",
        "'; DROP TABLE things; --",
        ":",
        "@",
        "model:",
        "@1",
        "x" * 10_000,
    ):
        with pytest.raises(UnknownThing):
            store.get(hostile)
    assert len(store.history()) == 1
