"""All versions of a project are compared as a frame, as a page that opens offline, and for a person."""

import csv
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from mlassets.versions import NothingToCompare, over_time, page, parallel_coordinates, versions_of
from mlassets_tests.browsers import launched, looking
from mlassets_tests.small_homes import mlassets, store_of
from resources.store import Store
from resources.things import Draft, Partition

HOSTILE = "</script><img src=x onerror=alert(1)>"
NAN = float("nan")


def commit(store: Store, segment: str, chosen: dict[str, Any], auc: float, **metrics: float) -> None:
    ends = {"test.roc_auc.low": auc - 0.05, "test.roc_auc.high": auc + 0.04}
    store.commit(
        "model",
        Partition.segment("late", segment),
        Draft(
            parameters={"estimator": "linear", "same": "for all", "importances": {"wind": auc}, **chosen},
            metrics={"test.roc_auc": auc, **(ends if math.isfinite(auc) else {}), **metrics},
            spec=json.dumps({"project": "late", "model": {"metric": "roc_auc"}}),
        ),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty versions of two segments, one of which has a name that would do harm."""
    folder = tmp_path_factory.mktemp("home") / "h"
    store, rng = store_of(folder), np.random.default_rng(0)
    for number in range(40):
        chosen = {
            "hyper_parameters": {"C": float(10 ** rng.uniform(-4, 2)), "depth": int(rng.integers(2, 9))},
            "estimator": ["linear", "gradient_boosting", "baseline"][number % 3],
        }
        commit(store, "EWR" if number % 2 else HOSTILE, chosen, 0.6 + 0.3 * float(rng.random()), rows=number)
    commit(store, "EWR", {"estimator": HOSTILE, "extra": None}, NAN)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


def test_the_frame_has_a_row_for_each_version_and_a_column_for_all_that_was_chosen_or_measured(
    home: Path,
) -> None:
    found = versions_of(store_of(home), "late")
    frame = found.to_pandas()
    assert (len(frame), found.metric) == (41, "test.roc_auc")
    assert frame["created_at"].is_monotonic_increasing
    assert frame["parameters.hyper_parameters.C"].notna().sum() == 40
    assert found.varying() == [
        "parameters.estimator",
        "parameters.hyper_parameters.C",
        "parameters.hyper_parameters.depth",
    ]
    assert found.measured() == ["metrics.test.roc_auc", "metrics.rows"]
    assert versions_of(store_of(home), "late", segment="EWR").table.num_rows == 21


def test_the_pictures_hold_plain_numbers_and_no_text_that_is_markup(home: Path) -> None:
    found = versions_of(store_of(home), "late")
    for figure in (
        over_time(found),
        parallel_coordinates(found),
        parallel_coordinates(found, ["parameters.none"]),
    ):
        text = json.dumps(figure, allow_nan=False)
        assert "<img" not in text
    lines = parallel_coordinates(found)["data"]
    assert len(lines) == 42  # and the bar of colours
    assert {place for line in lines[:40] for place in line["y"] if not 0 <= place <= 1} == set()
    ewr = over_time(found)["data"][1]
    assert (ewr["name"], len(ewr["y"])) == ("late|EWR", 20)
    assert ewr["error_y"]["arrayminus"] == pytest.approx([0.05] * 20)


def test_the_page_draws_both_pictures_offline_and_runs_nothing_else(
    home: Path, tmp_path: Path, browser: Browser
) -> None:
    path = tmp_path / "compare.html"
    told = mlassets(home, "compare", "late", "--html", str(path))
    assert told.exit_code == 0, told.output
    assert path.stat().st_size < 6_000_000
    with looking(browser) as look:
        look.page.goto(path.as_uri())
        look.page.wait_for_function("document.querySelectorAll('.figure svg .scatterlayer').length >= 2")
        assert look.page.locator(".figure svg .scatterlayer .trace").count() > 40
        assert look.page.locator("h2").all_inner_texts() == [
            "test.roc_auc over time",
            "What was chosen, and what came of it",
            "Versions, newest first",
            "The same in all versions",
        ]
        assert look.page.locator("table").first.locator("tbody tr").count() == 41


def test_the_command_prints_writes_and_refuses(home: Path, tmp_path: Path) -> None:
    told = mlassets(home, "compare", "late", "--csv", str(tmp_path / "all.csv"))
    assert told.exit_code == 0, told.output
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 41
    assert {"metrics.test.roc_auc.low", "parameters.importances.wind"} <= set(rows[0])
    records = json.loads(mlassets(home, "compare", "late", "--segment", "EWR", "--json").stdout)
    assert len(records) == 21
    assert re.fullmatch(r"[0-9a-f-]{36}", records[0]["id"])
    for words, message in (
        (["late", "--metric", "auc"], "there is test.roc_auc"),
        (["late", "--step", "sources"], "no step of a project"),
        (["early"], "early has no model yet"),
        (["late", "--segment", "JFK"], "the segment JFK of late has no model"),
    ):
        told = mlassets(home, "compare", *words)
        assert told.exit_code == 2
        assert message in " ".join(told.output.split())


def test_one_version_and_a_step_without_metrics_have_a_page_too(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.commit("draw_data", Partition.segment("late", "EWR"), Draft(parameters={"sql": "SELECT 1"}))
    found = versions_of(store, "late", "draw_data")
    assert (found.metric, found.varying(), found.measured()) == ("", [], [])
    assert b"none was measured" in page(found)
    with pytest.raises(NothingToCompare):
        versions_of(store, "late", "draw_data", metric="rows")
