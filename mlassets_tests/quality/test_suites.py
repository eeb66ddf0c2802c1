from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlassets.quality import deepchecks_adapter, frames
from mlassets.quality.checks import CHECKS, Task, checks_of
from mlassets.quality.judging import Observation, judge
from mlassets.quality.suites import Judgement, NotJudgeable, judge_draw, judge_model, judge_model_ready
from mlassets_tests.quality.recipes import METRICS, TASKS, draw, fitted, model_ready
from resources.roles import SPLIT
from resources.verdicts import Limit, Verdict


def by_claim(judgement: Judgement) -> dict[str, Verdict]:
    return {verdict.claim: verdict for verdict in judgement.verdicts}


def judged_draw(table: pa.Table, task: Task = "binary", **more: Any) -> dict[str, Verdict]:
    options: dict[str, Any] = {"limits": {}, "key": ["key"], "with_display": False} | more
    return by_claim(judge_draw(table, target="target", task=task, **options))


@pytest.mark.parametrize("task", TASKS)
def test_each_suite_gives_one_verdict_per_entry_and_none_crashes(task: Task) -> None:
    ready = model_ready(task)
    judgements = {
        "integrity": judge_draw(draw(task), target="target", task=task, limits={}, key=["key"]),
        "train_test": judge_model_ready(ready, task=task, limits={}, dates=draw(task)["when"]),
        "evaluation": judge_model(ready, fitted(ready, task), task=task, metrics=METRICS, limits={}),
    }
    for suite, judgement in judgements.items():
        assert [v.claim for v in judgement.verdicts] == [e.claim for e in checks_of(suite)]  # type: ignore[arg-type]
        assert not [v.message for v in judgement.verdicts if v.status == "crashed"]
        for verdict, entry in zip(judgement.verdicts, checks_of(suite), strict=True):  # type: ignore[arg-type]
            assert verdict.passed or not verdict.blocks, verdict
            assert (task in entry.tasks) or verdict.status == "not_applicable"
            assert Verdict.from_dict(verdict.as_dict()) == verdict


@pytest.mark.parametrize("rows", [0, 1, 12])
@pytest.mark.parametrize("task", TASKS)
def test_a_tiny_segment_is_judged_and_never_crashes(task: Task, rows: int) -> None:
    drawn, ready = draw(task, max(rows, 1)).slice(0, rows), model_ready(task, max(rows, 1)).slice(0, rows)
    model = fitted(model_ready(task), task)
    verdicts = [
        *judge_draw(drawn, target="target", task=task, limits={}, key=["key"]).verdicts,
        *judge_model_ready(ready, task=task, limits={}).verdicts,
        *judge_model(ready, model, task=task, metrics={}, limits={}).verdicts,
    ]
    assert not [v for v in verdicts if v.status == "crashed"]
    assert not [v for v in verdicts if v.claim.endswith("drift") and not v.passed]


@pytest.mark.parametrize("target", [pa.nulls(300, pa.int64()), pa.array([1] * 300)])
def test_a_target_without_two_values_blocks(target: pa.Array) -> None:
    table = draw("binary", 300)
    table = table.set_column(table.column_names.index("target"), "target", target)
    verdicts = judged_draw(table)
    assert verdicts["target_takes_several_values"].blocks
    assert not [v for v in verdicts.values() if v.status == "crashed"]


@pytest.mark.parametrize("rows", [1, 12])
def test_one_target_value_in_a_few_rows_is_left_to_the_baseline(rows: int) -> None:
    table = draw("binary", 300).slice(0, rows)
    ones = pa.array([1] * rows)
    table = table.set_column(table.column_names.index("target"), "target", ones)
    verdict = judged_draw(table)["target_takes_several_values"]
    assert verdict.status == "not_applicable"
    assert "the model will be the baseline" in verdict.message
    nothing = table.set_column(table.column_names.index("target"), "target", pa.nulls(rows, pa.int64()))
    assert judged_draw(nothing)["target_takes_several_values"].blocks


def test_a_draw_without_its_target_is_refused_by_name() -> None:
    with pytest.raises(NotJudgeable, match="no target column `late`"):
        judge_draw(draw("binary", 20), target="late", task="binary", limits={})


def test_a_crashing_check_is_a_failed_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError("the check itself is broken")

    monkeypatch.setitem(deepchecks_adapter.OBSERVE, "MixedNulls", broken)
    verdict = judged_draw(draw("binary", 200))["nulls_are_written_one_way"]
    assert verdict.status == "crashed"
    assert not verdict.passed
    assert "ZeroDivisionError: the check itself is broken" in verdict.message


def test_a_figure_that_is_not_a_number_fails() -> None:
    verdict, _ = judge(checks_of("integrity")[0], {}, lambda: Observation(float("nan"), 5, "nothing"))
    assert verdict.status == "failed"


@pytest.mark.parametrize("name", ["columns_are_filled", "nulls"])
def test_a_spec_moves_limit_and_severity_under_claim_or_measure(name: str) -> None:
    table = draw("binary", 200)
    assert not judged_draw(table)["columns_are_filled"].blocks
    moved = judged_draw(table, limits={name: Limit("<", 0.9, "ERROR")})["columns_are_filled"]
    assert moved.blocks
    assert moved.limit == "< 0.9"
    assert judged_draw(table, limits={name: Limit("<=", 1.0)})["columns_are_filled"].passed


def test_identical_inputs_give_identical_verdicts_and_the_sample_is_stated() -> None:
    table, ready = draw("binary", 1_200), model_ready("binary", 1_200)
    model = fitted(ready, "binary")

    def all_verdicts(seed: int) -> list[Mapping[str, Any]]:
        judged = [
            judge_draw(
                table,
                target="target",
                task="binary",
                limits={},
                key=["key"],
                sample=500,
                seed=seed,
                with_display=False,
            ),
            judge_model_ready(ready, task="binary", limits={}, sample=500, seed=seed, with_display=False),
            judge_model(
                ready,
                model,
                task="binary",
                metrics=METRICS,
                limits={},
                sample=500,
                seed=seed,
                with_display=False,
            ),
        ]
        return [v.as_dict() for j in judged for v in j.verdicts if v.claim != "predictions_are_fast"]

    first = all_verdicts(1)
    np.random.seed(123)
    assert all_verdicts(1) == first
    assert all_verdicts(2) != first
    stated = next(v for v in first if v["claim"] == "no_feature_gives_the_target_away")
    assert stated["n"] == 500
    assert "seeded sample of 500 of 1,200 rows" in stated["message"]
    assert stated["details"]["seed"] == 1


def test_a_judgement_leaves_numpys_global_generator_alone() -> None:
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    judged_draw(draw("binary", 200))
    assert np.random.random() == expected


def drifting(rows: int, shift: float) -> dict[str, Verdict]:
    ready = model_ready("binary", rows)
    size = pc.add(ready["size"], pc.if_else(pc.equal(ready[SPLIT], "test"), shift, 0.0))
    at = ready.column_names.index("size")
    ready = ready.set_column(at, ready.schema.field("size"), size)
    return by_claim(judge_model_ready(ready, task="binary", limits={}, with_display=False))


def test_drift_is_no_alarm_for_ten_rows_nor_for_noise_and_is_one_for_a_shift() -> None:
    assert drifting(25, 0.0)["features_do_not_drift"].passed
    assert "oo few rows to tell" in drifting(25, 3.0)["features_do_not_drift"].message
    assert drifting(200_000, 0.02)["features_do_not_drift"].status == "passed"
    shifted = drifting(3_000, 1.0)["features_do_not_drift"]
    assert shifted.status == "failed"
    assert "`size` drifts most" in shifted.message


def test_a_leak_between_the_splits_blocks() -> None:
    ready = model_ready("binary", 400)
    train = ready.filter(pc.equal(ready[SPLIT], "train"))
    at = ready.column_names.index(SPLIT)
    leaked = train.set_column(at, ready.schema.field(SPLIT), pa.array(["test"] * train.num_rows))
    verdicts = by_claim(judge_model_ready(pa.concat_tables([train, leaked]), task="binary", limits={}))
    assert verdicts["no_key_in_both_splits"].blocks
    assert verdicts["no_row_in_both_splits"].blocks
    assert verdicts["no_row_in_both_splits"].observed == 1.0


def test_the_metrics_limits_of_a_spec_are_one_verdict() -> None:
    ready = model_ready("binary", 200)
    model = fitted(ready, "binary")

    def verdict(**limits: Limit) -> Verdict:
        judged = judge_model(ready, model, task="binary", metrics=METRICS, limits=limits, with_display=False)
        return by_claim(judged)["metrics_keep_their_limits"]

    assert verdict().status == "not_applicable"
    assert verdict(feature_drift=Limit("<", 0.1)).status == "not_applicable"
    assert verdict(roc_auc=Limit(">=", 0.6, "ERROR")).status == "passed"
    warned = verdict(roc_auc=Limit(">=", 0.95, "WARN"))
    assert (warned.status, warned.severity) == ("failed", "WARN")
    blocked = verdict(roc_auc=Limit(">=", 0.95, "WARN"), f1=Limit(">=", 0.1, "ERROR"))
    assert blocked.blocks
    assert "`test.f1` is not among the metrics" in blocked.message
    assert blocked.observed == 2


def test_a_model_that_fell_back_to_the_baseline_says_so() -> None:
    ready = model_ready("binary", 200)
    model = fitted(ready, "binary")
    judged = judge_model(
        ready,
        model,
        task="binary",
        metrics={},
        limits={},
        fallback="12 rows are too few.",
        with_display=False,
    )
    verdict = by_claim(judged)["segment_is_large_enough"]
    assert verdict.status == "failed"
    assert "12 rows are too few." in verdict.message


def test_the_baseline_must_be_beaten_by_the_low_end_of_the_interval() -> None:
    ready = model_ready("binary", 200)
    model = fitted(ready, "binary")
    metrics = METRICS | {"gain_over_baseline.roc_auc.low": -0.01, "gain_over_champion.roc_auc.high": -0.1}
    verdicts = by_claim(
        judge_model(ready, model, task="binary", metrics=metrics, limits={}, with_display=False)
    )
    assert verdicts["beats_the_baseline"].status == "failed"
    assert verdicts["beats_the_baseline"].observed == -0.01
    assert verdicts["not_worse_than_champion"].status == "failed"


def test_hostile_column_names_are_only_names() -> None:
    table = draw("binary", 200)
    odd = {
        "colour": '"; DROP TABLE rows; --',
        "size": "<script>alert(1)</script>",
        "note": "it's \\ \n 100 %",
    }
    table = table.rename_columns([odd.get(name, name) for name in table.column_names])
    assert not [v.message for v in judged_draw(table).values() if v.status == "crashed"]


def test_frames_keep_rows_in_order_and_nulls_as_none() -> None:
    table = draw("binary", 1_000)
    sampled = frames.sample(table, 100, 3)
    assert sampled.num_rows == 100
    assert sampled["when"].to_pylist() == sorted(sampled["when"].to_pylist())
    colours = frames.frame(table)["colour"]
    assert colours.dtype == object
    assert None in set(colours)


def test_every_entry_names_a_distinct_claim_and_measure() -> None:
    pairs = {(entry.claim, entry.measure) for entry in CHECKS}
    assert len({claim for claim, _ in pairs}) == len(pairs) == len({measure for _, measure in pairs})
    assert len({(entry.suite, entry.claim) for entry in CHECKS}) == len(CHECKS)
