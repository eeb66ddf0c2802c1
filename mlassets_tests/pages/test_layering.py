"""Where the nodes of a graph are put, whatever the graph."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlassets.pages.drawing import Box, draw, draw_groups, shortened
from mlassets.pages.layering import lay_out

Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Edges]:
    """Any graph without circles: edges lead from smaller numbers to larger ones."""
    count = draw(st.integers(1, 25))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(
        lambda one: one[0] < one[1]
    )
    return count, draw(st.lists(pairs, max_size=60)) if count > 1 else []


@given(graphs())
def test_every_edge_leads_to_the_right_and_no_two_nodes_overlap(graph: tuple[int, Edges]) -> None:
    count, edges = graph
    layout = lay_out(range(count), edges)
    assert set(layout.places) == set(range(count))
    for upstream, downstream in edges:
        assert layout.places[upstream][0] < layout.places[downstream][0]
    assert set(layout.bends) == set(edges)
    for layer in range(layout.layers):
        heights = sorted(height for column, height in layout.places.values() if column == layer)
        assert all(b - a >= 1 - 1e-6 for a, b in pairwise(heights))
        assert all(-1e-6 <= height <= layout.height + 1e-6 for height in heights)


@given(graphs())
def test_no_edge_runs_through_a_node(graph: tuple[int, Edges]) -> None:
    count, edges = graph
    layout = lay_out(range(count), edges)
    for bends in layout.bends.values():
        for layer, height in bends:
            beside = [other for column, other in layout.places.values() if column == layer]
            assert all(abs(other - height) > 0.5 for other in beside)


@given(graphs())
def test_a_drawing_is_the_same_each_time(graph: tuple[int, Edges]) -> None:
    count, edges = graph
    assert lay_out(range(count), edges) == lay_out(range(count), edges)


def test_a_chain_is_a_straight_line() -> None:
    layout = lay_out("abcde", pairwise("abcde"))
    assert [layout.places[one] for one in "abcde"] == [(layer, 0.0) for layer in range(5)]


def test_edges_of_chains_side_by_side_do_not_cross() -> None:
    ends = [f"model {number}" for number in range(40)]
    starts = [f"draw {number}" for number in reversed(range(40))]
    edges = [(f"draw {number}", f"model {number}") for number in range(40)]
    layout = lay_out([*starts, *ends], edges)
    assert all(layout.places[a][1] == layout.places[b][1] for a, b in edges)


def test_a_start_stands_beside_the_first_that_uses_it() -> None:
    layout = lay_out("abcx", [("a", "b"), ("b", "c"), ("x", "c")])
    assert layout.places["x"][0] == layout.places["b"][0]


def test_a_circle_and_an_edge_to_nowhere_do_no_harm() -> None:
    layout = lay_out("abc", [("a", "b"), ("b", "a"), ("b", "b"), ("b", "c"), ("elsewhere", "c")])
    assert set(layout.places) == set("abc")
    assert lay_out([], []).layers == 0


def test_those_of_one_step_and_project_are_one_node_at_a_glance() -> None:
    boxes = [Box(f"m{number}", "model", f"late|{number}", group=("model", "late")) for number in range(100)]
    boxes += [Box("a", "aggregate", "late", group=("aggregate", "late"))]
    drawing = draw_groups(boxes, [(f"m{number}", "a") for number in range(100)])
    assert [(one.title, one.box.corner, one.box.text) for one in drawing.boxes] == [
        ("model", "× 100", "late"),
        ("aggregate", "", "late"),
    ]
    assert [line.count for line in drawing.lines] == [100]


def test_a_name_of_any_length_and_script_fits_its_box() -> None:
    names = ["x" * 500, "東京" * 100, "a b " * 80, "\n\t ", "🛫" * 60]
    drawing = draw([Box(str(number), name, name, "corner12") for number, name in enumerate(names)], [])
    assert all(len(one.title) <= 17 and len(one.text) <= 28 for one in drawing.boxes)
    assert shortened("東京" * 10, 9) == "東京…東京"
