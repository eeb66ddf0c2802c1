"""The lineage page as a file: self-contained, and nobody's name is anything but text."""

import base64
import hashlib
import re

from mlassets.pages.lineage import AT_A_GLANCE, DRAWN, around, graph, lineage_page
from mlassets_tests.quality.test_report import HOSTILE, Scripts, parsed
from resources.lineage import Lineage, Node, State
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Edge, Partition, new_id


def node(step: str, partition: str, depth: int = 0, state: State = "there") -> Node:
    return Node(
        new_id(), depth, state, step, partition, project=partition.partition("|")[0], user=HOSTILE, host="h"
    )


def fan(count: int, name: str = "late") -> Lineage:
    """An aggregate of many models."""
    root = node("aggregate", name)
    models = [node("model", f"{name}|{number}", -1) for number in range(count)]
    return Lineage(root.id, (*models, root), tuple(Edge(root.id, one.id, 1) for one in models))


def texts_of(page: str) -> Scripts:
    return parsed(page.encode())


def test_a_file_loads_nothing_and_runs_only_its_own_script() -> None:
    page = lineage_page(fan(3, HOSTILE))
    found = texts_of(page)
    assert all(value.startswith("#") or value == "data:," for value in found.loads)
    ((_, script),) = found.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in found.policy
    assert found.policy.startswith("default-src 'none'")
    assert ' style="' not in page


def test_a_hostile_name_stays_text_wherever_it_stands() -> None:
    page = lineage_page(fan(3, f'"><img src=x onerror=alert(1)>{HOSTILE}'))
    assert HOSTILE not in page
    assert "<img" not in page
    assert texts_of(page).scripts[0][1].count("alert") == 0


def test_every_thing_is_in_the_graph_and_in_the_table_and_every_edge_is_drawn() -> None:
    lineage = fan(5)
    page = lineage_page(lineage)
    for one in lineage.nodes:
        assert page.count(f'data-row="{one.id}"') == 1
        assert page.count(f'<tr id="{one.id}"') == 1
        assert f'href="#{one.id}"' in page
    assert page.count('class="edge"') == 5


def test_links_lead_to_the_pages_of_things_where_there_are_such() -> None:
    lineage = fan(2)
    page = lineage_page(lineage, links=lambda one: f"https://things.example/{one}")
    assert page.count(f'href="https://things.example/{lineage.root}"') == 2


def test_what_is_gone_says_so() -> None:
    root = node("model", "late|EWR")
    gone = [node("sources", "flights", -1, "retired"), node("sources", "weather", -1, "removed")]
    missing = Node(new_id(), -1, "missing")
    edges = tuple(Edge(root.id, one.id, 1) for one in (*gone, missing))
    page = lineage_page(Lineage(root.id, (*gone, missing, root), edges))
    for text in ("retired", "removed", "not in this catalog"):
        assert f"<td>{text}</td>" in page
    assert re.search(r'class="node step-sources retired"', page)
    assert re.search(r'class="node step-other missing"', page)


def test_many_things_are_drawn_at_a_glance_first() -> None:
    assert graph(fan(AT_A_GLANCE - 1))["groups"] is None
    page = lineage_page(fan(100))
    assert "× 100" in page
    assert page.count('name="view"') == 2


def test_what_is_too_far_to_be_drawn_is_counted() -> None:
    lineage = fan(DRAWN + 50)
    found = graph(lineage, listed=100)
    assert (found["not_drawn"], found["not_listed"]) == (51, 551)
    assert len(found["rows"]) == 100
    assert lineage.root in {row["node"].id for row in found["rows"]}
    page = lineage_page(lineage)
    assert "51 Things are not drawn" in page
    # At a glance they are counted all the same.
    assert f"× {DRAWN + 50}" in page


def test_a_things_page_shows_no_more_than_what_is_near(tmp_path: object) -> None:
    store = Store.open(Settings(home=str(tmp_path)))  # type: ignore[arg-type]
    source = store.commit("sources", Partition.source("flights"), Draft())
    draws = store.commit_all(
        ("draw_data", Partition.segment("late", str(number)), Draft(based_on=[source.id]))
        for number in range(301)
    )
    last = store.commit("model_ready", Partition.segment("late", "0"), Draft(based_on=[draws[0].id]))
    lineage, whole = around(store, source.id)
    assert not whole
    assert last.id not in {one.id for one in lineage.nodes}
    lineage, whole = around(store, last.id)
    assert whole
    assert len(lineage.nodes) == 3
