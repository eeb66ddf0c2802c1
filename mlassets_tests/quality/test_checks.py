import subprocess
import sys

from mlassets.quality.checks import CHECKS, entry_of, limit_of, metric_of, unknown_limits
from mlassets.quality.judging import Observation, judge
from resources.verdicts import Limit


def test_unknown_names_are_refused_with_likely_ones() -> None:
    found = unknown_limits(["feature_drft", "roc_auc", "test.roc_auc", "duplicates"], "binary", ["roc_auc"])
    assert list(found) == ["feature_drft"]
    assert "feature_drift" in found["feature_drft"]


def test_a_check_of_another_task_is_unknown() -> None:
    assert unknown_limits(["brier_score"], "binary") == {}
    assert "brier_score" in unknown_limits(["brier_score"], "regression")


def test_the_metric_in_a_flat_name_is_its_last_part() -> None:
    assert metric_of("slice.origin=EWR.f1") == "f1"
    assert metric_of("gain_over_baseline.roc_auc.low") == "roc_auc"
    assert metric_of("roc_auc") == "roc_auc"


def test_a_limit_under_the_claim_comes_before_one_under_the_measure() -> None:
    entry = entry_of("features_do_not_drift")
    limits = {"features_do_not_drift": Limit("<", 0.5), "feature_drift": Limit("<", 0.1)}
    assert limit_of(entry, limits).value == 0.5
    assert limit_of(entry, {}) == entry.limit


def test_chance_shrinks_with_the_rows_and_only_where_it_plays_a_part() -> None:
    drift, nulls = entry_of("features_do_not_drift"), entry_of("columns_are_filled")
    assert drift.noise(10) > 1 > drift.noise(300) > drift.noise(10_000)
    assert nulls.noise(10) == 0


def test_chance_excuses_a_large_figure_but_never_one_that_is_too_small() -> None:
    drift = entry_of("features_do_not_drift")
    gain = next(entry for entry in CHECKS if entry.limit.op == ">")
    found = Observation(-0.3, 9_000, "found", compared=9_000)
    assert judge(gain, {}, lambda: found)[0].status == "failed"
    few = Observation(drift.limit.value + 0.01, 60, "found", compared=60)
    assert few.value < drift.noise(60)
    assert judge(drift, {}, lambda: few)[0].status == "not_applicable"


def test_the_table_imports_nothing_heavy() -> None:
    code = (
        "import sys, mlassets.quality.checks, mlassets.quality.suites, mlassets.quality.report\n"
        "heavy = {'pandas', 'sklearn', 'deepchecks', 'duckdb', 'plotly', 'matplotlib', 'dagster', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
