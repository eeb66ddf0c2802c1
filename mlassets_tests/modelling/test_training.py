import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlassets.modelling import evaluation
from mlassets.modelling.features import make_model_ready
from mlassets.modelling.metrics import METRICS
from mlassets.modelling.persistence import load_estimator
from mlassets.modelling.training import NotTrainable, Trained, train
from mlassets_tests.modelling.drawn import departures
from resources.roles import features_of

LEAKS = {"late": ["delay", "cause"], "delay": ["late", "cause"], "cause": ["late", "delay"]}
TARGETS = {
    "binary": ("late", "roc_auc"),
    "multiclass": ("cause", "balanced_accuracy"),
    "regression": ("delay", "rmse"),
}


def ready(table: pa.Table, target: str = "late", task: str = "binary", **changes: object) -> pa.Table:
    options: dict = {"drop": LEAKS[target], "by": "random", "test": 0.25, "validation": 0.25} | changes
    return make_model_ready(table, target=target, task=task, **options).table


def trained(table: pa.Table, task: str = "binary", **changes: object) -> Trained:
    options: dict = {
        "candidates": ["baseline", "linear", "gradient_boosting"],
        "metric": TARGETS[task][1],
        "trials": 3,
        "seconds": 600,
        "seed": 0,
    }
    return train(table, task=task, **(options | changes))


def frame_of(table: pa.Table, split: str = "test") -> pd.DataFrame:
    rows = table.filter(pc.equal(table["split"], split)).select(list(features_of(table.schema)))
    return rows.to_pandas()


@pytest.fixture(scope="module")
def usual() -> tuple[pa.Table, Trained]:
    table = ready(departures(1500))
    return table, trained(table)


@pytest.mark.parametrize("candidate", ["linear", "gradient_boosting", "random_forest"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_candidate_beats_the_baseline_on_every_task(task, candidate):
    target, metric = TARGETS[task]
    table = ready(departures(1200), target, task)

    made = trained(table, task, candidates=["baseline", candidate], trials=1)

    assert made.parameters["candidate"] == candidate
    assert made.metrics[f"gain_over_baseline.{metric}.low"] > 0
    for split in ("train", "validation", "test"):
        measured = {name.split(".")[1] for name in made.metrics if name.startswith(f"{split}.")}
        assert measured >= set(METRICS[task]) - {"mape"}
    for name in METRICS[task]:
        if f"test.{name}" in made.metrics:
            value = made.metrics[f"test.{name}"]
            assert made.metrics[f"test.{name}.low"] <= value <= made.metrics[f"test.{name}.high"]
    assert {"model.skops", "curves.png", "importances.png"} == set(made.artifacts)
    assert all(np.isfinite(value) for value in made.metrics.values())
    json.dumps(made.parameters, allow_nan=False)
    model = load_estimator(made.artifacts["model.skops"])
    assert model.predict(frame_of(table)).tolist() == made.predictions["prediction"].to_pylist()


def test_the_predictions_are_the_test_split_with_true_values_and_keys(usual):
    table, made = usual
    test = table.filter(pc.equal(table["split"], "test"))

    assert made.predictions["row_key"].to_pylist() == test["row_key"].to_pylist()
    assert made.predictions["actual"].to_pylist() == test["late"].to_pylist()
    scored = evaluation.score_predictions(made.predictions, "binary", intervals=False)
    assert scored == pytest.approx({name: made.metrics[f"test.{name}"] for name in METRICS["binary"]})


def test_poisoned_validation_and_test_rows_change_nothing_that_was_fitted():
    table = ready(departures(1500))
    poisoned = {}
    elsewhere = pc.not_equal(table["split"], "train")
    for name, kind in features_of(table.schema).items():
        odd = {"numeric": 1e9, "categorical": "POISON", "boolean": True}[kind]
        poisoned[name] = pc.if_else(elsewhere, pa.scalar(odd, table[name].type), table[name])
    dirty = table
    for name, values in poisoned.items():
        dirty = dirty.set_column(dirty.column_names.index(name), dirty.schema.field(name), values)

    # One trial of one candidate: validation may choose between models, but has no part in fitting one.
    for candidate in ("linear", "random_forest"):
        models = [
            load_estimator(
                trained(t, candidates=[candidate], trials=1, metric="brier").artifacts["model.skops"]
            )
            for t in (table, dirty)
        ]
        if candidate == "linear":
            final = [m.named_steps["estimate"].estimator_.estimator for m in models]
            assert (final[0].coef_ == final[1].coef_).all()
        prepared = [m.named_steps["prepare"].transform(frame_of(table, "train")) for m in models]
        assert abs(prepared[0] - prepared[1]).max() == 0
        assert "POISON" not in str(
            models[1].named_steps["prepare"].named_transformers_["categorical"][-1].categories_
        )


def test_the_threshold_and_the_choice_do_not_look_at_the_test_split(usual):
    table, made = usual
    is_test = pc.equal(table["split"], "test")
    flipped = table.set_column(
        table.column_names.index("late"),
        table.schema.field("late"),
        pc.if_else(is_test, pc.subtract(1, table["late"]), table["late"]),
    )

    other = trained(flipped)

    assert other.artifacts["model.skops"] == made.artifacts["model.skops"]
    assert other.parameters["threshold"] == made.parameters["threshold"]
    assert other.parameters["importances"] == made.parameters["importances"]


def test_the_stored_model_says_one_from_the_recorded_threshold_on(usual):
    table, made = usual
    model = load_estimator(made.artifacts["model.skops"])
    share = model.predict_proba(frame_of(table))[:, 1]

    assert (model.predict(frame_of(table)) == (share >= made.parameters["threshold"])).all()
    assert made.parameters["threshold"] != 0.5


def test_unseen_categories_and_every_kind_of_missing_are_predicted(usual):
    table, _ = usual
    for candidate in ("linear", "gradient_boosting", "random_forest"):
        made = trained(table, candidates=[candidate], trials=1)
        model = load_estimator(made.artifacts["model.skops"])
        frame = frame_of(table).head(8).astype({"carrier": object, "rain": object})
        frame.loc[frame.index[:2], "carrier"] = "ZZ"
        frame.loc[frame.index[2], "carrier"] = None
        frame.loc[frame.index[3], "carrier"] = np.nan
        frame.loc[frame.index[4], "rain"] = None
        frame.loc[frame.index[5], "wind"] = np.nan
        shares = model.predict_proba(frame)[:, 1]

        assert np.isfinite(shares).all()
        assert model.predict_proba(frame.astype({"carrier": "category"}))[:, 1] == pytest.approx(shares)


def test_none_and_nan_mean_the_same_missing_text(usual):
    table, made = usual
    model = load_estimator(made.artifacts["model.skops"])
    frame = frame_of(table).head(4).astype({"carrier": object})

    none, nan = frame.assign(carrier=None), frame.assign(carrier=np.nan)

    assert (model.predict_proba(none.astype({"carrier": object})) == model.predict_proba(nan)).all()


def test_a_feature_that_is_constant_or_all_null_in_training_does_no_harm():
    table = departures(600)
    last = np.arange(600) >= 350
    table = table.append_column("late_sensor", pa.array(np.arange(600.0), mask=~last))
    table = table.append_column("late_text", pa.array(["x"] * 600, mask=~last))
    table = table.append_column("switch", pa.array(last))
    made_ready = ready(table, by="time", split_column="time", kinds={"late_text": "categorical"})
    of_train = made_ready.filter(pc.equal(made_ready["split"], "train"))
    assert of_train["late_sensor"].null_count == of_train["late_text"].null_count == len(of_train)
    assert pc.count_distinct(of_train["switch"]).as_py() == 1

    for candidate in ("linear", "gradient_boosting", "random_forest"):
        made = trained(made_ready, candidates=[candidate], trials=1)
        assert made.metrics["test.roc_auc"] > 0.7
        assert any("late_sensor" in note and "training split" in note for note in made.notes)


def test_a_segment_of_twelve_rows_keeps_the_baseline_and_says_why():
    made = trained(ready(departures(12)), segment="late-flights|LGA")

    assert made.parameters["candidate"] == "baseline"
    assert made.notes[0] == (
        "late-flights|LGA has 6 rows in its training split; `linear` needs 50. The baseline was kept; "
        "widen the draw or merge the segment to train a real model."
    )
    assert load_estimator(made.artifacts["model.skops"]).predict_proba(pd.DataFrame({"x": [1]})).shape[0] == 1


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("rows", [1, 2, 3, 12])
def test_any_tiny_segment_yields_a_baseline(rows, task):
    made = trained(ready(departures(rows), TARGETS[task][0], task), task)

    assert made.parameters["candidate"] == "baseline"
    assert made.predictions.num_rows == made.parameters["rows"]["test"]
    assert made.notes
    json.dumps([made.parameters, made.metrics], allow_nan=False)


def test_one_class_in_training_keeps_the_baseline():
    table = departures(400)
    late = pa.array([i >= 300 and i % 2 == 0 for i in range(400)])
    table = table.set_column(table.column_names.index("late"), "late", late)

    made = trained(ready(table, by="time", split_column="time", test=0.25, validation=0.1))

    assert made.parameters["candidate"] == "baseline"
    assert "one class in its training split" in made.notes[0]


def test_one_class_in_test_leaves_metrics_out_with_a_note():
    table = departures(400)
    late = pa.array([i < 280 and i % 2 == 0 for i in range(400)])
    table = table.set_column(table.column_names.index("late"), "late", late)

    made = trained(ready(table, by="time", split_column="time"), candidates=["linear"], trials=1)

    assert "test.roc_auc" not in made.metrics
    assert "test.log_loss" in made.metrics
    assert any("roc_auc" in note and "not defined on the test split" in note for note in made.notes)


def test_a_table_without_usable_features_keeps_the_baseline():
    table = departures(300).select(["late", "time"]).set_column(1, "c", pa.array([1] * 300))
    made = trained(make_model_ready(table, target="late", task="binary").table)

    assert made.parameters["candidate"] == "baseline"
    assert "no usable feature" in made.notes[0]


def test_noise_keeps_the_baseline_when_nothing_beats_it():
    rng = np.random.default_rng(3)
    table = pa.table({"x": rng.normal(size=400), "y": rng.normal(size=400)})
    made = trained(
        make_model_ready(table, target="y", task="regression").table,
        "regression",
        candidates=["baseline", "gradient_boosting"],
        trials=1,
    )

    assert made.parameters["candidate"] == "baseline"
    assert made.metrics["gain_over_baseline.rmse"] == 0
    assert any("Nothing beat the baseline" in note for note in made.notes)


def test_the_champion_is_compared_on_the_same_rows(usual):
    table, made = usual
    weak = trained(ready(departures(120, seed=9)), candidates=["linear"], trials=1)

    again = trained(table, champion=made.artifacts["model.skops"])
    against_weak = trained(table, champion=weak.artifacts["model.skops"])

    assert again.metrics["champion.test.roc_auc"] == made.metrics["test.roc_auc"]
    assert again.metrics["gain_over_champion.roc_auc"] == 0
    assert (against_weak.metrics["gain_over_champion.roc_auc"] > 0) == (
        against_weak.metrics["champion.test.roc_auc"] < made.metrics["test.roc_auc"]
    )
    assert against_weak.artifacts == made.artifacts


def test_a_champion_whose_features_are_gone_or_that_does_not_fit_is_noted(usual):
    table, made = usual
    champion = made.artifacts["model.skops"]

    without = trained(table.drop_columns(["wind"]), candidates=["linear"], trials=1, champion=champion)
    other_task = trained(
        ready(departures(300), "delay", "regression"),
        "regression",
        candidates=["linear"],
        trials=1,
        champion=champion,
    )
    forged = trained(table, candidates=["linear"], trials=1, champion=b"nonsense")

    assert any("features wind are gone" in note for note in without.notes)
    assert "champion.test.roc_auc" in without.metrics
    assert any("another task" in note for note in other_task.notes)
    assert any("was not compared" in note for note in forged.notes)


def test_the_search_keeps_to_its_trials_and_its_seconds(usual):
    table, made = usual
    told: list[str] = []

    hurried = trained(table, trials=50, seconds=0, progress=told.append)

    assert made.parameters["trials_done"] == 3
    assert made.parameters["stopped_by"] == "trials"
    assert made.parameters["bit_reproducible"]
    assert hurried.parameters["trials_done"] == 2 == len(told)
    assert hurried.parameters["stopped_by"] == "seconds"
    assert not hurried.parameters["bit_reproducible"]
    assert any("stopped after 2 of 50 trials" in note for note in hurried.notes)


def test_what_matters_is_important_and_what_does_not_is_not(usual):
    _, made = usual
    importances = made.parameters["importances"]

    assert next(iter(importances)) in ("wind", "hour")
    assert importances["wind"]["mean"] > 5 * abs(importances["other"]["mean"])
    assert {"robustness.noise.loss", "robustness.missing_values.loss"} <= set(made.metrics)
    assert made.metrics["robustness.missing_values.loss"] > 0


def test_slices_are_measured_and_the_weak_one_is_named(usual):
    _, made = usual

    assert {"slice.carrier=AA.roc_auc", "slice.rain=true.roc_auc"} <= set(made.metrics)
    assert made.parameters["slices"]["considered"] >= 5


def test_an_impossible_request_is_refused_in_words():
    table = ready(departures(100))
    with pytest.raises(NotTrainable, match="no metric 'rmse'; choose one of roc_auc"):
        trained(table, metric="rmse")
    with pytest.raises(NotTrainable, match="candidate 'xgboost' is unknown"):
        trained(table, candidates=["xgboost"])
    with pytest.raises(NotTrainable, match="not model-ready"):
        trained(departures(100))
    with pytest.raises(NotTrainable, match=r"p\|EWR: the training split has 0 rows"):
        trained(table.slice(0, 0), segment="p|EWR")


_RUN = """
import hashlib, sys
import pyarrow.ipc as ipc
from mlassets.modelling.training import train
table = ipc.open_file(sys.argv[1]).read_all()
made = train(table, task=sys.argv[2], candidates=["baseline", "linear", "gradient_boosting", "random_forest"],
             metric=sys.argv[3], trials=5, seconds=600, seed=7, segment="s")
print(hashlib.sha256(repr(made.predictions.to_pylist()).encode()).hexdigest())
for name in sorted(made.artifacts):
    print(name, hashlib.sha256(made.artifacts[name]).hexdigest())
print(hashlib.sha256(repr((sorted(made.metrics.items()), made.parameters, made.notes)).encode()).hexdigest())
"""


_POOLS = """
import sys
import pyarrow.ipc as ipc
from threadpoolctl import threadpool_info
from mlassets.modelling.training import train
table = ipc.open_file(sys.argv[1]).read_all()
inside = []
train(table, task="binary", candidates=["gradient_boosting"], metric="roc_auc", trials=1, seconds=60, seed=0,
      progress=lambda _: inside.extend(threadpool_info()))
assert any(pool["user_api"] == "openmp" for pool in inside)
print({pool["num_threads"] for pool in inside})
"""


def written(table: pa.Table, path: Path) -> str:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return str(path)


def test_a_fresh_process_fits_on_one_thread(tmp_path: Path):
    path = written(ready(departures(300)), tmp_path / "t.arrow")

    said = subprocess.run([sys.executable, "-c", _POOLS, path], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "{1}"


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_two_processes_make_the_same_bytes(tmp_path: Path, task: str):
    target, metric = TARGETS[task]
    path = written(ready(departures(700), target, task), tmp_path / "t.arrow")

    said = [
        subprocess.run(
            [sys.executable, "-c", _RUN, path, task, metric],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert said[0] == said[1]
    assert "model.skops" in said[0]


def test_the_forest_is_the_same_in_two_runs_though_it_grows_in_threads():
    table = ready(departures(800))

    runs = [trained(table, candidates=["random_forest"], trials=2) for _ in range(2)]

    digests = {hashlib.sha256(run.artifacts["model.skops"]).hexdigest() for run in runs}
    assert len(digests) == 1
    assert runs[0].predictions.equals(runs[1].predictions)
