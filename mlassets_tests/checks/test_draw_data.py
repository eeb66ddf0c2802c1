"""What the checks of a draw compare it with: the draw that the segment's champion was trained on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlassets.checks.draw_data import verdicts_on
from mlassets.home import Home
from mlassets.modelling.features import make_model_ready
from mlassets_tests.modelling.drawn import departures
from mlassets_tests.small_homes import write_spec
from resources.things import Draft, Partition, Thing
from resources.verdicts import Verdict

EWR = Partition.segment("late", "EWR")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    write_spec(tmp_path, segments=["EWR"], key=None, features={"drop": ["delay", "cause"]})
    return Home(home=str(tmp_path))


def drift(home: Home, draw: Thing) -> Verdict:
    (verdict,) = [
        one for one in verdicts_on(home, draw).verdicts if one.claim == "data_is_like_the_champions"
    ]
    return verdict


def drawn(home: Home, table: pa.Table) -> Thing:
    return home.store.commit("draw_data", EWR, Draft(dataset=table))


def released(home: Home, draw: Thing) -> None:
    """Make what a release of this draw's model stands on."""
    store, project = home.store, Partition.project("late")
    made = make_model_ready(draw.table(), target="late", task="binary", drop=["delay", "cause"])
    ready = store.commit("model_ready", EWR, Draft(dataset=made.table, based_on=[draw.id]))
    model = store.commit("model", EWR, Draft(parameters={"candidate": "baseline"}, based_on=[ready.id]))
    parameters = {"models": {"EWR": model.id}, "alias": "champion"}
    store.commit("publish", project, Draft(parameters=parameters, based_on=[model.id]))


def test_a_draw_is_compared_with_the_one_that_the_champion_was_trained_on(home: Home) -> None:
    first = drawn(home, departures(300))
    assert drift(home, first).message == "Does not apply: the segment has no champion."
    released(home, first)
    alike = drawn(home, departures(300, seed=1))
    assert drift(home, alike).status == "passed"
    table = departures(300, seed=2)
    windy = table.set_column(0, "wind", pc.add(table["wind"], 1.5))
    found = drift(home, drawn(home, windy))
    assert found.status == "failed"
    assert found.details["columns"]["wind"] == found.observed
    # The parts of `time` are features, `time` itself is none; `delay` and `cause` are dropped, `late` is the target.
    assert sorted(found.details["columns"]) == ["carrier", "hour", "other", "rain", "wind"]


def test_what_was_drawn_but_never_released_is_no_measure(home: Home) -> None:
    released(home, drawn(home, departures(300)))
    table = departures(300, seed=2)
    windy = drawn(home, table.set_column(0, "wind", pc.add(table["wind"], 1.5)))
    assert drift(home, windy).status == "failed"
    assert drift(home, drawn(home, windy.table())).status == "failed", "until it is released"
    released(home, windy)
    assert drift(home, drawn(home, windy.table())).observed == 0
