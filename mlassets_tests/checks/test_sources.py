"""A source is held against what its spec expects, and its new files against those that were there before."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlassets.checks.draw_data import verdicts_on as verdicts_on_draw
from mlassets.checks.sources import verdicts_on
from mlassets.home import Home
from mlassets.steps import LIMITS
from mlassets_tests.small_homes import land, runner_of, write_spec
from resources.things import Draft, Partition, Thing, new_id
from resources.verdicts import Verdict

LANDED = dt.datetime(2024, 2, 3, tzinfo=dt.UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "sources").mkdir()
    return Home(home=str(tmp_path))


def expect(home: Home, source: str, spec: dict[str, Any]) -> None:
    (home.settings.sources / f"{source}.yaml").write_text(json.dumps(spec))


def version(home: Home, source: str, files: dict[str, pa.Table], folder: Path) -> Thing:
    """Commit a version of a source whose files landed under these names."""
    import pyarrow.parquet as pq

    records, parts = [], {}
    for name, table in files.items():
        path = folder / f"{name}.parquet"
        pq.write_table(table, path)
        parts[path.name] = path
        at = int(LANDED.timestamp() * 1e9)
        records.append(
            {"name": name, "table": "", "component": path.name, "rows": table.num_rows, "mtime_ns": at}
        )
    draft = Draft(
        files=dict(parts),
        schema=next(iter(files.values())).schema,
        parameters={"files": records, "quarantined": [], "pattern": "*"},
    )
    return home.store.commit("sources", Partition.source(source), draft)


def found(home: Home, source: Thing) -> dict[str, Verdict]:
    return {one.claim: one for one in verdicts_on(home, source).verdicts}


def flights(numbers: list[int], day: int, words: str = "ab") -> pa.Table:
    at = [dt.datetime(2024, 1, 1) + dt.timedelta(days=day)] * len(numbers)
    return pa.table({"id": numbers, "carrier": [words[i % len(words)] for i in numbers], "at": at})


def test_each_version_of_a_source_is_judged_by_what_its_spec_expects(home: Home, tmp_path: Path) -> None:
    version(home, "carriers", {"carriers.csv": pa.table({"code": ["a"]})}, tmp_path)
    expect(
        home,
        "flights",
        {
            "expect": {
                "key": ["id"],
                "columns": {"id": {"range": [0, 59]}, "carrier": {"reference": "carriers.code"}},
                "rules": [{"sql": "id >= 0"}],
                "arrives": {"column": "at", "every": "20d", "within": "3d"},
            },
            "checks": {"fail": {"values_are_valid": "<= 0"}, "warn": {"keys_are_unique": "<= 0.5"}},
        },
    )
    first = {"jan.csv": flights(list(range(50)), 0)}
    version(home, "flights", first, tmp_path)
    second = first | {"feb.csv": flights([*range(40, 80)], 31, "bz")}
    verdicts = found(home, version(home, "flights", second, tmp_path))
    valid = verdicts["values_are_valid"]
    assert valid.blocks
    assert valid.observed == pytest.approx(20 / 90)
    assert "in row 21 of feb.csv" in valid.message
    assert (
        '"carrier" should be found in `code` of carriers: 65 of 90' in verdicts["values_are_accurate"].message
    )
    assert verdicts["columns_are_consistent"].status == "passed"
    assert verdicts["keys_are_unique"].passed, "the spec moved its limit"
    assert verdicts["keys_are_unique"].observed == pytest.approx(10 / 90)
    assert verdicts["data_is_timely"].observed == pytest.approx(31 / 20)
    assert '"z"' in verdicts["no_new_values"].message
    assert verdicts["no_new_values"].observed == pytest.approx(0.5)
    assert verdicts["values_are_complete"].status == "passed"


def test_a_source_that_is_referred_to_and_not_there_fails_the_claim(home: Home, tmp_path: Path) -> None:
    expect(home, "flights", {"expect": {"columns": {"carrier": {"reference": "carriers.code"}}}})
    verdict = found(home, version(home, "flights", {"jan.csv": flights([1], 0)}, tmp_path))[
        "values_are_accurate"
    ]
    assert not verdict.passed
    assert "carriers" in verdict.message


def test_a_source_of_which_nobody_expects_anything_is_judged_all_the_same(home: Home, tmp_path: Path) -> None:
    verdicts = found(home, version(home, "flights", {"jan.csv": flights([1], 0)}, tmp_path))
    assert {one.status for one in verdicts.values()} <= {"passed", "not_applicable"}


def test_a_draw_is_held_against_its_projects_expectations(home: Home, tmp_path: Path) -> None:
    rows = {"id": [1, 2, 2], "wind": [0.5, 99.0, None], "carrier": ["a", "b", "c"], "late": [0, 1, 1]}
    table = pa.table(rows)
    version(home, "carriers", {"carriers.csv": pa.table({"code": ["a", "b"]})}, tmp_path)
    write_spec(
        tmp_path,
        segments=["EWR"],
        key=None,
        expect={
            "key": ["id"],
            "columns": {"wind": {"range": [-10, 10]}, "carrier": {"reference": "carriers.code"}},
            "rules": [{"sql": "late IN (0, 1)"}],
        },
    )
    draw = home.store.commit("draw_data", Partition.segment("late", "EWR"), Draft(dataset=table))
    verdicts = {one.claim: one for one in verdicts_on_draw(home, draw).verdicts}
    assert verdicts["keys_are_unique"].blocks
    assert verdicts["values_are_valid"].observed == pytest.approx(1 / 2)
    assert verdicts["values_are_accurate"].observed == pytest.approx(1 / 3)
    assert verdicts["columns_are_consistent"].status == "passed"
    assert verdicts["data_is_timely"].status == "not_applicable"


def test_a_source_is_judged_again_when_its_spec_expects_something_else(home: Home, tmp_path: Path) -> None:
    from mlassets.automation.planners import sources_to_judge
    from mlassets.checks.reporting import report
    from mlassets.steps import look_at

    source = version(home, "flights", {"jan.csv": flights([1, 2], 0)}, tmp_path)

    def due() -> list[str]:
        specs = home.load_sources(landed=False).specs
        return [one.partition.key for one in sources_to_judge(specs, look_at(home.store))]

    expect(home, "flights", {"expect": {"columns": {"id": {"range": [0, 9]}}}})
    assert due() == [], "what was never judged is left to the run that made it"
    list(report(home, source, verdicts_on(home, source), "run"))
    assert due() == []
    expect(home, "flights", {"expect": {"columns": {"id": {"range": [0, 1]}}}, "description": "Departures"})
    assert due() == ["flights"]
    list(report(home, source, verdicts_on(home, source), "run"))
    assert due() == []
    assert "values_are_valid" in {one.claim for one in home.store.verdicts(source.id) if not one.passed}


def test_a_run_judges_again_what_the_spec_now_expects_and_then_nothing(home: Home, tmp_path: Path) -> None:
    expect(home, "flights", {"expect": {"columns": {"id": {"range": [0, 9]}}}})
    land(tmp_path, "flights/jan.csv", "id,carrier\n1,a\n20,b\n")
    with runner_of(tmp_path) as runner:
        assert [(one.steps, one.state) for one in runner.take_landed_files()] == [(("sources",), "done")]
        expect(home, "flights", {"expect": {"columns": {"id": {"range": [0, 99]}}}})
        (again,) = runner.take_landed_files()
        assert (again.steps, again.partition, again.state) == (("checks of sources",), "flights", "done")
        assert runner.take_landed_files() == []
    newest = home.store.require("sources", Partition.source("flights"))
    assert {one.claim: one.status for one in home.store.verdicts(newest.id)}["values_are_valid"] == "passed"


def test_a_source_of_before_there_were_expectations_is_judged_when_it_gets_some(
    home: Home, tmp_path: Path
) -> None:
    land(tmp_path, "flights/jan.csv", "id,carrier\n1,a\n20,b\n")
    with runner_of(tmp_path) as runner:
        runner.take_landed_files()
        newest = home.store.require("sources", Partition.source("flights"))
        unmarked = [
            replace(one, details={name: value for name, value in one.details.items() if name != LIMITS})
            for one in home.store.verdicts(newest.id)
        ]
        home.store.record_verdicts(newest.id, new_id(), unmarked, b"", run_id="earlier")
        assert runner.take_landed_files() == []
        expect(home, "flights", {"expect": {"columns": {"id": {"range": [0, 9]}}}})
        assert [one.partition for one in runner.take_landed_files()] == ["flights"]
