"""New files beside those of before: what moved, what is new, and what is neither."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlassets.expectations import Expectations
from mlassets.quality.dimensions import Arrived
from mlassets.quality.rows import Rows
from mlassets.quality.sources import judge_source
from resources.verdicts import Limit, Verdict

AT = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)


def month(number: int, rows: int = 900, shift: float = 0.0, words: str = "abc") -> pa.Table:
    rng = np.random.default_rng(number)
    return pa.table(
        {
            "id": np.arange(rows) + 10_000 * number,
            "wind": rng.normal(size=rows) + shift,
            "word": rng.choice(list(words), rows),
            "text": [f"row {number} {i}" for i in range(rows)],
            "at": [dt.datetime(2024, number, 1) + dt.timedelta(minutes=i) for i in range(rows)],
        }
    )


def verdicts(new: pa.Table, earlier: pa.Table, **given: Limit) -> dict[str, Verdict]:
    whole = pa.concat_tables([earlier, new], promote_options="default")
    found = judge_source(
        Rows(data=whole),
        Expectations(key=("id",)),
        new=Rows(data=new),
        arrived=Arrived(AT, earlier=Rows(data=earlier)),
        limits=given,
        threads=1,
    )
    return {one.claim: one for one in found.verdicts}


def test_a_file_like_those_before_is_no_alarm() -> None:
    found = verdicts(month(2), month(1))
    drift, new = found["files_are_like_the_ones_before"], found["no_new_values"]
    assert drift.passed
    assert drift.observed is not None
    assert drift.observed < 0.1
    assert (new.status, new.observed) == ("passed", 0)
    assert found["keys_are_unique"].status == "passed"


@pytest.mark.parametrize(
    ("new", "column"),
    [(month(2, shift=0.7), "wind"), (month(2, words="aaaab"), "word"), (month(2, words="xyz"), "word")],
)
def test_the_column_that_moved_is_named(new: pa.Table, column: str) -> None:
    drift = verdicts(new, month(1))["files_are_like_the_ones_before"]
    assert drift.status == "failed"
    assert f'"{column}" moved most' in drift.message
    assert verdicts(new, month(1), file_drift=Limit("<=", 1))["files_are_like_the_ones_before"].passed


def test_a_new_value_is_named_with_how_often_it_came() -> None:
    new = verdicts(month(2, words="abz"), month(1))["no_new_values"]
    assert new.status == "failed"
    assert '"word" holds 1 new value in' in new.message
    assert '"z"' in new.message
    assert new.details["new values"] == {"word": ["z"]}


def test_a_small_file_is_no_alarm_for_what_chance_makes() -> None:
    drift = verdicts(month(2, rows=20, shift=0.3), month(1))["files_are_like_the_ones_before"]
    assert drift.status in ("passed", "not_applicable")


def test_columns_that_came_or_went_or_hold_only_nulls_are_left_out() -> None:
    new = (
        month(2)
        .append_column("fresh", pa.array([1.0] * 900))
        .set_column(1, "wind", pa.nulls(900, pa.float64()))
    )
    drift = verdicts(new, month(1))["files_are_like_the_ones_before"]
    assert set(drift.details["columns"]) <= {"word"}


def test_the_first_files_have_nothing_to_be_compared_with() -> None:
    found = judge_source(Rows(data=month(1)), Expectations(), arrived=Arrived(AT), threads=1)
    by_claim = {one.claim: one.status for one in found.verdicts}
    assert by_claim["files_are_like_the_ones_before"] == by_claim["no_new_values"] == "not_applicable"
    none = judge_source(None, Expectations(), arrived=Arrived(AT), threads=1)
    assert {one.status for one in none.verdicts} == {"not_applicable"}


def test_rows_that_are_all_alike_are_sampled_as_others_are(tmp_path: Path) -> None:
    def flags(share: float) -> pa.Table:
        return pa.table(
            {"same": [1] * 70_000, "value": [float(i % 100 < 100 * share) for i in range(70_000)]}
        )

    moved = verdicts(flags(0.9), flags(0.1))["files_are_like_the_ones_before"]
    assert moved.observed == pytest.approx(0.8, abs=0.02)
    paths = [tmp_path / name for name in ("a.parquet", "b.parquet")]
    for path, share in zip(paths, (0.1, 0.9), strict=True):
        pq.write_table(flags(share), path)
    found = judge_source(
        Rows(tuple(paths)),
        Expectations(),
        new=Rows((paths[1],)),
        arrived=Arrived(AT, earlier=Rows((paths[0],))),
        threads=2,
    )
    (drift,) = [one for one in found.verdicts if one.claim == "files_are_like_the_ones_before"]
    assert drift.observed == pytest.approx(0.8, abs=0.02)
