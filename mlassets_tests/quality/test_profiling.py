"""Whatever a profile proposes, the rows that it was found in pass, also once a spec file has held it."""

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.quality.dimensions import judged_dimensions
from mlassets.quality.judging import Observation
from mlassets.quality.profiling import Profile, profile, profile_page
from mlassets.quality.rows import Rows
from mlassets.sources import load_source
from mlassets_tests.browsers import launched, looking

N = 3_000


def passes(table: pa.Table, found: Profile, folder: Path) -> None:
    """Hold the rows against what was proposed for them, by way of a file."""
    file = folder / "found.yaml"
    file.write_text(found.as_yaml(), encoding="utf-8")
    expected = load_source(file).expect if found.expected else None
    if expected is None:
        return
    assert set(expected.columns) == set(found.expected["columns"])
    for dimension, seen in judged_dimensions(Rows(data=table), expected, threads=1).items():
        assert not isinstance(seen, Observation) or seen.value == 0, (dimension, seen)


NAMES = st.text(min_size=1, max_size=12).filter(lambda name: "\0" not in name)
CELLS = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.string(): st.text(max_size=20) | st.sampled_from(["AB-1", "CD-22", "yes", "1", "null", "~"]),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "Europe/Berlin"): st.datetimes(dt.datetime(1900, 1, 1), timezones=st.just(dt.UTC)),
    pa.decimal128(20, 4): st.decimals(-(10**12), 10**12, places=4),
    pa.null(): st.none(),
    pa.list_(pa.int64()): st.lists(st.integers(0, 9), max_size=3),
}


@st.composite
def tables(draw: Any) -> pa.Table:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.casefold))
    rows = draw(st.integers(0, 30))
    columns = {}
    for name in names:
        kind = draw(st.sampled_from(list(CELLS)))
        values = draw(st.lists(st.none() | CELLS[kind], min_size=rows, max_size=rows))
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


@settings(max_examples=15, deadline=None)
@given(table=tables())
def test_rows_pass_what_is_proposed_for_them(
    table: pa.Table, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = profile(Rows(data=table), threads=1)
    assert found.rows == table.num_rows
    assert [one.name for one in found.columns] == table.column_names
    assert [one.nulls for one in found.columns] == [column.null_count for column in table.columns]
    passes(table, found, tmp_path_factory.mktemp("spec"))
    json.dumps(found.as_dict())
    assert b"Columns" in profile_page(found, title="any")


HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    start = [dt.datetime(2024, 1, 1) + dt.timedelta(hours=i // 3) for i in range(N)]
    return pa.table(
        {
            "code": [f"AB-{i // 3:05d}" for i in range(N)],
            "line": [i % 3 for i in range(N)],
            "amount": rng.normal(50, 10, N).clip(0),
            "delay": rng.integers(-30, 900, N),
            HOSTILE: rng.choice([HOSTILE, "</script><script>alert(2)</script>", "&amp;", "no"], N),
            'we"ird; drop': pa.array([None if i % 10 == 0 else i / 2 for i in range(N)]),
            "start": start,
            "end": [one + dt.timedelta(hours=2) for one in start],
            "flag": [bool(i % 2) for i in range(N)],
            "tab\tname": range(N, 2 * N),
        }
    )


@pytest.fixture(scope="module")
def found(table: pa.Table) -> Profile:
    return profile(Rows(data=table), threads=1)


def test_what_is_proposed_is_what_a_person_would_write(
    table: pa.Table, found: Profile, tmp_path: Path
) -> None:
    columns = found.expected["columns"]
    assert columns["code"]["pattern"] == "[A-Z]{2}-[0-9]{5}"
    assert columns["amount"]["range"][0] == 0
    assert columns["amount"]["range"][1] == pytest.approx(float(table["amount"].to_numpy().max()), rel=0.3)
    assert columns["delay"]["range"] == [-130, 1000]
    assert columns[HOSTILE]["values"] == sorted(set(table[HOSTILE].to_pylist()))
    assert columns['we"ird; drop']["nulls"] == pytest.approx(0.15)
    assert columns["start"] == {"type": "timestamp", "range": ["2024-01-01", None], "nulls": 0}
    assert found.expected["rules"] == [{"sql": '"start" <= "end"'}]
    assert "tab\tname" not in columns, "no spec names such a column"
    passes(table, found, tmp_path)


def test_a_key_of_several_columns_is_found_and_none_where_there_is_none(table: pa.Table) -> None:
    without = table.drop_columns(["tab\tname", "amount", 'we"ird; drop', "delay"])
    found = profile(Rows(data=without), threads=1)
    assert len(found.keys) == 1
    assert set(found.keys[0]) & {"code", "start", "end"}
    assert "line" in found.keys[0]
    assert len(found.keys[0]) == 2
    twice = pa.concat_tables([without, without])
    assert profile(Rows(data=twice), threads=1).keys == ()


def test_a_profile_counts_what_is_there(table: pa.Table, found: Profile) -> None:
    by_name = {one.name: one for one in found.columns}
    amount = table["amount"].to_numpy()
    assert by_name["amount"].mean == pytest.approx(amount.mean())
    assert by_name["amount"].deviation == pytest.approx(amount.std())
    assert sum(by_name["amount"].counts) == N
    assert by_name["amount"].bins is not None
    assert by_name["amount"].counts == tuple(np.histogram(amount, 40)[0])
    assert dict(by_name["flag"].top) == {"false": N // 2, "true": N // 2}
    assert by_name["line"].distinct == 3
    assert by_name["line"].distinct_is_exact
    assert not math.isnan(by_name['we"ird; drop'].quantiles[1])


def test_the_page_draws_and_runs_nothing_of_the_data(found: Profile, tmp_path: Path) -> None:
    page = tmp_path / "profile.html"
    page.write_bytes(profile_page(found, title=f"Profile of {HOSTILE}"))
    dialogs: list[str] = []
    with launched() as browser, looking(browser) as look:
        look.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        look.page.goto(page.as_uri())
        look.page.wait_for_selector(".figure .main-svg")
        assert look.page.locator("section .figure .main-svg").count() >= len(found.columns)
        assert look.page.locator("img, section script:not([type='application/json'])").count() == 0
        assert HOSTILE in look.page.locator("h1").inner_text()
        assert "expect:" in look.page.locator("pre").inner_text()
    assert dialogs == []
