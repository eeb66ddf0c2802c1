"""A function that was run on Things is kept with what came of it, and can be run again by whoever finds it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from resources.functions import BadFunction
from resources.settings import Settings
from resources.store import Store
from resources.things import BadDraft, Thing, UnknownThing

FLIGHTS = pa.table({"origin": ["EWR", "JFK", "EWR", "LGA"], "delay": [5, -1, 30, 12]})
FACTOR = 2


def late_only(flights: pd.DataFrame, minutes: int = 10) -> pd.DataFrame:
    """Keep the late ones."""
    return flights[flights["delay"] >= minutes]


def summary(flights: pa.Table, split, *, digits: int = 1):  # type: ignore[no-untyped-def]
    average = np.round(pc.mean(flights["delay"]).as_py(), digits)
    return {
        "metrics": {"average": average},
        "labels": {"of": split.labels["kind"]},
        "artifacts": {"origins": sorted(set(flights["origin"].to_pylist()))},
    }


def count(thing: Thing) -> int:
    return thing.rows or 0


def annotated_in_text(flights: "pd.DataFrame") -> "int":
    return len(flights.columns)


def uses_a_constant(flights: pa.Table) -> int:
    return flights.num_rows * FACTOR


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(Settings(home=tmp_path))
    store.log(FLIGHTS, name="flights", labels={"kind": "raw"})
    return store


def test_a_function_is_kept_with_its_result_its_arguments_and_its_lineage(store: Store) -> None:
    made = store.run(late_only, {"flights": "flights"}, labels={"ticket": "AB-1"})
    assert made.dataset.to_pandas()["delay"].tolist() == [30, 12]
    assert made.parameters["arguments"] == {"minutes": 10}
    assert made.based_on == (store.get("flights").id,)
    assert made.labels == {"ticket": "AB-1"}
    assert "Keep the late ones." in made.artifact("function.py").decode()
    assert store.get("late_only").id == made.id


def test_it_is_called_again_with_other_arguments_by_naming_the_thing(store: Store) -> None:
    first = store.run(late_only, {"flights": "flights"})
    again = store.run("late_only", {"flights": "flights"}, {"minutes": 30})
    assert again.dataset.to_arrow()["delay"].to_pylist() == [30]
    assert set(again.based_on) == {first.id, store.get("flights").id}
    assert store.get("late_only@-1").id == again.id
    assert again.artifacts["function.py"].path == first.artifacts["function.py"].path, (
        "the same source is shared"
    )


def test_a_mapping_is_taken_apart_and_anything_else_is_the_result(store: Store) -> None:
    made = store.run(summary, {"flights": "flights", "split": "flights"}, {"digits": 0})
    assert made.metrics == {"average": 12.0}
    assert made.labels == {"of": "raw"}
    assert made.artifacts["origins"].load() == ["EWR", "JFK", "LGA"]
    assert store.run(count, {"thing": "flights"}).artifacts["result"].load() == 4
    assert store.run(annotated_in_text, {"flights": "flights"}).artifacts["result"].load() == 2


def test_a_kept_function_runs_in_a_process_that_has_never_seen_it(store: Store, tmp_path: Path) -> None:
    made = store.run(summary, {"flights": "flights", "split": "flights"})
    program = (
        "import sys; from resources.store import Store; from resources.settings import Settings\n"
        "store = Store.open(Settings(home=sys.argv[1]))\n"
        "again = store.run(sys.argv[2], {'flights': 'flights', 'split': 'flights'})\n"
        "print(again.data_version)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), made.id],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert told.stdout.split() == [made.data_version]


def decorated(function: Any) -> Any:
    return function


@decorated
def with_decorator(flights: pa.Table) -> int:
    return 1


def test_what_its_source_alone_would_not_do_is_refused(store: Store) -> None:
    limit = 10

    def closure(flights: pa.Table) -> int:
        return limit

    for function, says in (
        (uses_a_constant, "uses 'FACTOR' of the module it is written in"),
        (closure, "uses limit of the function around it; give it as a parameter"),
        (lambda flights: 1, "is no function that `def` made"),
        (with_decorator, "with_decorator is decorated or no plain `def`"),
        (len, "len is no function that `def` made"),
    ):
        with pytest.raises(BadFunction, match=says):
            store.run(function, {"flights": "flights"})
    assert store.browse().count() == 1


def test_a_call_that_does_not_fit_is_refused_before_anything_runs(store: Store) -> None:
    with pytest.raises(BadFunction, match="missing a required argument: 'flights'"):
        store.run(late_only)
    with pytest.raises(BadFunction, match="unexpected keyword argument 'hours'"):
        store.run(late_only, {"flights": "flights"}, {"hours": 1})
    with pytest.raises(BadFunction, match="flights is given as an input and as a parameter"):
        store.run(late_only, {"flights": "flights"}, {"flights": 1})
    with pytest.raises(BadDraft, match="minutes"):
        store.run(late_only, {"flights": "flights"}, {"minutes": np.datetime64("2026-01-01")})
    with pytest.raises(UnknownThing, match="keeps no function"):
        store.run("flights")
