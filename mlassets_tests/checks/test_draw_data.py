"""What the checks of a draw compare it with: the draw that the segment's champion was trained on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlassets.automation.planners import Decision, decide
from mlassets.checks.draw_data import verdicts_on
from mlassets.home import Home
from mlassets.modelling.features import make_model_ready
from mlassets.steps import CODE_VERSIONS, step_hash
from mlassets_tests.modelling.drawn import departures
from mlassets_tests.small_homes import write_spec
from resources.things import Draft, Partition, Thing, new_id
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
    table = departures(300, seed=2)
    windy = drawn(home, table.set_column(0, "wind", pc.add(table["wind"], 1.5)))
    found = drift(home, windy)
    assert found.status == "failed"
    assert found.details["columns"]["wind"] == found.observed
    # The parts of `time` are features, `time` itself is none; `delay` and `cause` are dropped, `late` is the target.
    assert sorted(found.details["columns"]) == ["carrier", "hour", "other", "rain", "wind"]
    again = drawn(home, windy.table())
    assert drift(home, again).status == "failed", "what was drawn but never released is no measure"
    released(home, windy)
    assert drift(home, again).observed == 0


def test_a_rule_on_drift_goes_by_this_verdict(tmp_path: Path) -> None:
    write_spec(
        tmp_path,
        segments=["EWR"],
        draw={"sql": "SELECT * FROM flights WHERE $segment = 'EWR'"},
        key=None,
        features={"drop": ["delay", "cause"]},
        retrain={"on": "drift", "above": 0.2},
    )
    home = Home(home=str(tmp_path))
    store, spec = home.store, home.project("late")

    def made(step: str, table: pa.Table, *based_on: Thing) -> Thing:
        partition = EWR if based_on else Partition.source("flights")
        draft = Draft(
            dataset=table,
            metrics={"rows": table.num_rows},
            based_on=[one.id for one in based_on],
            code_version=CODE_VERSIONS[step],
            spec_hash=step_hash(spec, step) if based_on else None,
        )
        return store.commit(step, partition, draft)

    def drawn_and_judged(table: pa.Table) -> tuple[Thing, dict[str, Decision]]:
        draw = made("draw_data", table, made("sources", table))
        store.record_verdicts(draw.id, new_id(), verdicts_on(home, draw).verdicts, None)
        return draw, {one.step: one for one in decide({"late": spec}, store)}

    draw, decided = drawn_and_judged(departures(300))
    assert decided["model_ready"].cause == "missing", "first work waits for no rule"
    ready = made("model_ready", make_model_ready(draw.table(), target="late", task="binary").table, draw)
    released_model = made("model", draw.table(["wind"]), ready)
    for one in (ready, released_model):
        store.record_verdicts(one.id, new_id(), store.verdicts(draw.id), None)
    parameters = {"models": {"EWR": released_model.id}, "alias": "champion"}
    store.commit("publish", Partition.project("late"), Draft(parameters=parameters))

    _, alike = drawn_and_judged(departures(300, seed=1))
    assert alike["model_ready"].state == "current"
    assert "no drift from the champion's data is known" in alike["model_ready"].reason
    table = departures(300, seed=2)
    _, moved = drawn_and_judged(table.set_column(0, "wind", pc.add(table["wind"], 1.5)))
    assert (moved["model_ready"].state, moved["model_ready"].cause) == ("due", "input")
    assert "exceeds 0.2" in moved["model_ready"].reason
