"""Lineage: every edge once, at its true distance, whatever has become of its ends."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets_tests.places import Place
from mlassets_tests.small_homes import mlassets
from resources.catalog import EDGES, Catalog
from resources.lineage import BadLineage, lineage
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing, UnknownThing, new_id

SOURCE = Partition.source("flights")


def commit(store: Store, step: str, project: str, *on: Thing, name: str = "all") -> Thing:
    return store.commit(step, Partition.segment(project, name), Draft(based_on=[one.id for one in on]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


def test_lineage_goes_both_ways_to_any_depth_and_across_projects(place: Place) -> None:
    store = place.open()
    source = store.commit("sources", SOURCE, Draft())
    draw = commit(store, "draw_data", "late", source)
    model = commit(store, "model", "late", draw, source)
    other = commit(store, "draw_data", "other", source)
    found = store.lineage(draw.id)
    assert [(one.id, one.depth) for one in found.nodes] == [(source.id, -1), (draw.id, 0), (model.id, 1)]
    assert {(one.thing_id, one.based_on) for one in found.edges} == {
        (draw.id, source.id),
        (model.id, draw.id),
    }
    used = store.used_by(source.id)
    assert {one.id: (one.project, one.depth) for one in used} == {
        draw.id: ("late", 1),
        model.id: ("late", 1),
        other.id: ("other", 1),
    }
    assert all(one.user and one.host and one.created_at for one in used)
    assert [one.id for one in store.lineage(model.id, downstream=False, depth=1).upstream] == [
        source.id,
        draw.id,
    ]
    assert store.used_by(model.id) == ()


def reached(
    edges: set[tuple[int, int]], depth: int | None, *, downstream: bool
) -> dict[tuple[int, int], int]:
    """Every edge that is reached from 5, with its distance, by going from each to each."""
    front, found, level = {5}, dict[tuple[int, int], int](), 0
    while front and (depth is None or level < depth):
        level += 1
        near = {pair for pair in edges if pair[1 if downstream else 0] in front} - found.keys()
        found |= dict.fromkeys(near, level)
        front = {pair[0 if downstream else 1] for pair in near}
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40), st.none() | st.integers(1, 4)
)
def test_every_edge_is_found_once_at_its_distance(
    catalog_url: str, pairs: list[tuple[int, int]], depth: int | None
) -> None:
    edges = {(max(pair), min(pair)) for pair in pairs if pair[0] != pair[1]}
    ids = [new_id() for _ in range(12)]
    catalog = opened(catalog_url)
    with sa.create_engine(catalog_url).begin() as connection:
        for thing, other in edges:
            connection.execute(sa.insert(EDGES).values(thing_id=ids[thing], based_on=ids[other]))
    found = lineage(catalog, ids[5], depth=depth)
    expected = {
        (ids[thing], ids[other]): level
        for down in (False, True)
        for (thing, other), level in reached(edges, depth, downstream=down).items()
    }
    assert {(one.thing_id, one.based_on): one.depth for one in found.edges} == expected
    assert len(found.edges) == len(expected)
    assert {one.id for one in found.nodes} == {ids[5], *(one for pair in expected for one in pair)}


@cache
def opened(url: str) -> Catalog:
    return Catalog(url)


def test_what_has_become_of_an_upstream_is_said(store: Store) -> None:
    gone = new_id()
    retired = store.commit("sources", SOURCE, Draft())
    store.retire(retired.id, "wrong file")
    model = store.commit("model", Partition.project("late"), Draft(based_on=[retired.id, gone]))
    found = store.lineage(model.id)
    assert {one.id: one.state for one in found.nodes} == {
        retired.id: "retired",
        gone: "missing",
        model.id: "there",
    }
    assert "not in this catalog" in str(found[gone])


def test_lineage_of_nothing_is_an_error_that_says_so(store: Store) -> None:
    with pytest.raises(UnknownThing, match=r"01a2013c-6e8b-7580-827d-1f1697e18c2d"):
        store.lineage("01a2013c-6e8b-7580-827d-1f1697e18c2d")
    made = store.commit("sources", SOURCE, Draft())
    with pytest.raises(BadLineage, match="give 1 or more"):
        store.lineage(made.id, depth=0)


def test_a_lineage_is_a_frame_and_a_mermaid_chart(store: Store) -> None:
    source = store.commit("sources", Partition.source('a"]; click t0 "javascript:alert(1)" <b>'), Draft())
    draw = commit(store, "draw_data", "late", source)
    found = store.lineage(draw.id)
    frame = found.to_pandas()
    assert frame["id"].tolist() == [source.id, draw.id]
    assert frame["depth"].tolist() == [-1, 0]
    assert [list(one) for one in frame["based_on"]] == [[], [source.id]]
    chart = found.mermaid()
    assert "t0 --> t1" in chart
    label = re.search(r't0\["(.*)"\]\n', chart)
    assert label is not None
    assert not set('"<>&;()') & set(re.sub(r"#\d+;|<br/>", "", label[1]))


def test_lineage_is_found_again_when_the_catalog_is_gone(tmp_path: Path, store: Store) -> None:
    source = store.commit("sources", SOURCE, Draft())
    draw = commit(store, "draw_data", "late", source)
    before = store.lineage(source.id)
    store.catalog.close()
    (tmp_path / "catalog.db").unlink()
    again = Store.open(Settings(home=tmp_path))
    with pytest.raises(UnknownThing, match="catalog sync"):
        again.lineage(draw.id)
    again.rebuild()
    assert again.lineage(source.id) == before


def test_the_commands_show_lineage_and_users(tmp_path: Path, store: Store) -> None:
    source = store.commit("sources", SOURCE, Draft())
    draw = commit(store, "draw_data", "late", source)
    told = json.loads(mlassets(tmp_path, "lineage", draw.id, "--json").stdout)
    assert [one["id"] for one in told["nodes"]] == [source.id, draw.id]
    assert told["edges"] == [{"thing_id": draw.id, "based_on": source.id, "depth": 1}]
    assert "draw_data" in mlassets(tmp_path, "used", source.id).stdout
    assert mlassets(tmp_path, "used", draw.id).stdout == "Nothing was made from it.\n"
    assert mlassets(tmp_path, "lineage", draw.id, "--mermaid").stdout.startswith("flowchart LR\n")
    wrong = mlassets(tmp_path, "used", "01a2013c-6e8b-7580-827d-1f1697e18c2d")
    assert wrong.exit_code == 2
