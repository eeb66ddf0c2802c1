"""Train the candidates of one segment, choose one on validation, and measure it once on test."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.modelling import evaluation, explanation
from mlassets.modelling.evaluation import Scored
from mlassets.modelling.metrics import CANDIDATES, METRICS, MIN_TRAINING_ROWS, TASKS, Task
from mlassets.modelling.persistence import dump_estimator, load_estimator
from mlassets.modelling.robustness import robustness
from mlassets.modelling.split import SPLITS, TEST, TRAIN, VALIDATION
from resources.errors import MlassetsError
from resources.roles import ROW_KEY, SPLIT, Kind, features_of, role_of, target_of

_SAMPLE = 2_000
_TRIALS_KEPT = 200


class NotTrainable(MlassetsError):
    """The table or the request cannot lead to a model."""


@dataclass(frozen=True)
class Trained:
    """One segment's model with all that was measured on it.

    Attributes:
        predictions: The test split: `row_key`, `actual`, `prediction` and the probabilities.
        parameters: Candidate, hyper-parameters, seed, search space, trials, threshold; JSON-serialisable.
        metrics: Flat metrics by name (`test.roc_auc`, `test.roc_auc.low`, `gain_over_baseline.roc_auc`, ...).
        artifacts: `model.skops` and the pictures.
        notes: What a person should know, one sentence each.
    """

    predictions: pa.Table
    parameters: dict[str, Any]
    metrics: dict[str, float]
    artifacts: dict[str, bytes]
    notes: list[str]


@dataclass(frozen=True)
class _Part:
    """One split: features as a frame, targets as `Scored` codes them."""

    frame: Any
    actual: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.actual)

    def sample(self, rows: int, seed: int) -> "_Part":
        if len(self) <= rows:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), rows, replace=False))
        return _Part(self.frame.iloc[chosen].reset_index(drop=True), self.actual[chosen])


@dataclass(frozen=True)
class _Data:
    task: Task
    kinds: Mapping[str, Kind]
    classes: tuple[str, ...]
    parts: Mapping[str, _Part]
    test: pa.Table

    @property
    def learnable(self) -> dict[str, Kind]:
        """The features with a value in the training split; of the others nothing can be learnt."""
        frame = self.parts[TRAIN].frame
        return {name: kind for name, kind in self.kinds.items() if frame[name].notna().any()}

    def score(self, pipeline: Any, part: _Part, *, repeats: int = 1, frame: Any = None) -> Scored:
        """Return a pipeline's outputs on a split, or on `repeats` changed copies of its rows in `frame`."""
        from mlassets.modelling.pipelines import outputs

        actual = np.tile(part.actual, repeats) if repeats > 1 else part.actual
        predicted, probability = outputs(pipeline, part.frame if frame is None else frame, self.task)
        return self.scored(actual, predicted, probability, getattr(pipeline.steps[-1][1], "classes_", None))

    def scored(
        self, actual: npt.NDArray[Any], predicted: npt.NDArray[Any], probability: Any, known: Any
    ) -> Scored:
        """Code outputs whose classes are `known` in the classes of this table."""
        if self.task == "regression":
            return Scored(self.task, actual, predicted)
        if self.task == "binary":
            of_one = np.flatnonzero(np.asarray(known) == 1)
            share = probability[:, of_one[0]] if len(of_one) else np.zeros(len(actual))
            return Scored(self.task, actual, predicted.astype(np.int64), share)
        code = {name: k for k, name in enumerate(self.classes)}
        full = np.zeros((len(actual), len(self.classes)))
        for k, name in enumerate(known):
            full[:, code[str(name)]] = probability[:, k]
        return Scored(self.task, actual, full.argmax(axis=1), full, self.classes)


@dataclass
class _Fitted:
    candidate: str
    pipeline: Any
    validation: float | None
    hyper_parameters: dict[str, Any] = field(default_factory=dict)
    stage: int = 1


@dataclass
class _Search:
    best: dict[str, _Fitted] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    stopped_by: str = "trials"


def train(
    table: pa.Table,
    *,
    task: Task,
    candidates: Sequence[str],
    metric: str,
    trials: int,
    seconds: float,
    seed: int,
    segment: str = "",
    champion: bytes | None = None,
    progress: Callable[[str], None] | None = None,
) -> Trained:
    """Train every candidate, choose the best on the validation split and measure it once on the test split.

    Trees are grown in stages for as long as a stage improves the metric on validation, and a trial that is behind
    the median of its kind after two stages is pruned. Everything that is fitted, imputation and encoding included,
    sees the training split only. The model is not fitted again on train and validation together, so that the
    threshold chosen on validation stays honest.
    The champion is measured on the same test rows; where the split is not by time it may have been trained on some
    of them, which flatters it.

    Args:
        table: A model-ready table: roles and kinds in its field metadata, a `split` column.
        task: What the target is.
        candidates: Of `baseline`, `linear`, `gradient_boosting`, `random_forest`. The baseline is always measured
            for comparison, and chosen where nothing beats it or nothing else can be trained.
        metric: What tuning and the choice go by.
        trials: Trials of all candidates together; each candidate's default settings are tried first, and always.
        seconds: No trial begins after this time. A search that time has stopped is not reproducible bit for bit.
        seed: Seed of everything random.
        segment: Name of the segment, for messages.
        champion: The current champion's `model.skops`, to be compared on the same test rows.
        progress: Is told about each trial.

    Raises:
        NotTrainable: If the table has no training rows or target, or a candidate or metric is unknown.
    """
    from threadpoolctl import threadpool_limits

    _check_request(table, task, candidates, metric, segment)
    # Read before the limit is set: it reaches only the thread pools of libraries that are loaded by then.
    data = _read(table, task)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Unknown categories are expected, and counted as such by the encoders.
        warnings.filterwarnings("ignore", message="Found unknown categories")
        warnings.filterwarnings("ignore", message="Skipping features without any observed values")
        return _train(table, data, candidates, metric, trials, seconds, seed, segment, champion, progress)


def _check_request(table: pa.Table, task: Task, candidates: Sequence[str], metric: str, segment: str) -> None:
    where = f"{segment}: " if segment else ""
    if task not in TASKS:
        raise NotTrainable(f"{where}the task {task!r} is unknown; choose one of {', '.join(TASKS)}.")
    if unknown := [name for name in candidates if name not in CANDIDATES]:
        raise NotTrainable(
            f"{where}the candidate {unknown[0]!r} is unknown; choose from {', '.join(CANDIDATES)}."
        )
    if metric not in METRICS[task]:
        raise NotTrainable(
            f"{where}{task} has no metric {metric!r}; choose one of {', '.join(METRICS[task])}."
        )
    if SPLIT not in table.column_names or not any(role_of(field) == "target" for field in table.schema):
        raise NotTrainable(
            f"{where}the table is not model-ready: it lacks the split or the target. Run model_ready."
        )
    if not pc.any(pc.equal(table[SPLIT], TRAIN)).as_py():
        raise NotTrainable(
            f"{where}the training split has 0 rows; widen the draw or merge the segment with another."
        )


def _read(table: pa.Table, task: Task) -> _Data:
    from mlassets.modelling.pipelines import as_frame

    kinds = features_of(table.schema)
    target = target_of(table.schema)
    classes = tuple(sorted(pc.unique(table[target]).to_pylist())) if task == "multiclass" else ()
    parts: dict[str, _Part] = {}
    tables = {split: table.filter(pc.equal(table[SPLIT], split)) for split in SPLITS}
    for split, rows in tables.items():
        if task == "multiclass":
            actual: npt.NDArray[Any] = evaluation.class_codes(rows[target], classes)
        else:
            actual = rows[target].to_numpy().astype(np.int64 if task == "binary" else np.float64)
        parts[split] = _Part(as_frame(rows, kinds), actual)
    return _Data(task, kinds, classes, parts, tables[TEST])


def _train(
    table: pa.Table,
    data: _Data,
    candidates: Sequence[str],
    metric: str,
    trials: int,
    seconds: float,
    seed: int,
    segment: str,
    champion: bytes | None,
    progress: Callable[[str], None] | None,
) -> Trained:
    task = data.task
    notes: list[str] = []
    baseline = _baseline(data, metric, seed)
    tunable = [name for name in dict.fromkeys(candidates) if name != "baseline"]
    if tunable and (reason := _why_not(data, baseline, tunable, metric, segment)):
        notes.append(reason)
        tunable = []
    search = _search(data, tunable, metric, trials, seconds, seed, notes, progress) if tunable else _Search()
    fitted = [*([baseline] if "baseline" in candidates or not search.best else []), *search.best.values()]
    chosen = _best(fitted, metric, task)
    if tunable and chosen.candidate == "baseline":
        notes.append(f"Nothing beat the baseline on {metric} in the validation split, so it was kept.")
    chosen, threshold, criterion = _thresholded(chosen, data, metric)
    if chosen.candidate != "baseline":
        baseline = _thresholded(baseline, data, metric)[0]

    metrics: dict[str, float] = {}
    for split in (TRAIN, VALIDATION):
        found = (
            evaluation.point_metrics(data.score(chosen.pipeline, data.parts[split]))
            if len(data.parts[split])
            else {}
        )
        metrics |= {f"{split}.{name}": value for name, value in found.items()}
    test = data.parts[TEST]
    model_name = chosen.candidate
    scored = _scored_or_empty(data, chosen.pipeline, test)
    others = {
        "baseline": scored if model_name == "baseline" else _scored_or_empty(data, baseline.pipeline, test)
    }
    if champion is not None:
        compared, note = _champion(data, champion, table)
        if compared is not None:
            others["champion"] = compared
        notes.extend(note)
    metrics |= _test_metrics(scored, others, task, metric, seed)
    _note_absent(scored, task, notes)

    calibrated = evaluation.calibration(scored)
    metrics |= {f"calibration.{name}": value for name, value in calibrated.metrics.items()}
    slices = evaluation.worst_slices(scored, _slice_columns(data), metric)
    for found_slice in slices.kept:
        metrics[f"slice.{found_slice['column']}={found_slice['value']}.{metric}"] = found_slice[metric]
    artifacts = {"model.skops": dump_estimator(chosen.pipeline)}
    if len(test):
        artifacts["curves.png"] = explanation.curves_picture(
            scored, calibrated, f"{segment} {model_name} on test".strip()
        )
    importances: dict[str, dict[str, float]] = {}
    if chosen.candidate != "baseline":
        losses, importances = _probe(data, chosen, metric, seed)
        metrics |= {f"robustness.{name}.loss": value for name, value in losses.items()}
        if importances:
            artifacts["importances.png"] = explanation.importances_picture(importances, metric)
    parameters = {
        "candidate": chosen.candidate,
        "estimator": _estimator_name(chosen.pipeline),
        "hyper_parameters": chosen.hyper_parameters,
        "fitted_on": TRAIN,
        "task": task,
        "target": target_of(table.schema),
        "classes": list(data.classes) if task == "multiclass" else [0, 1] if task == "binary" else [],
        "metric": metric,
        "higher_is_better": METRICS[task][metric],
        "seed": seed,
        "threshold": threshold,
        "threshold_maximises": criterion,
        "candidates": {
            f.candidate: {"validation": f.validation, "hyper_parameters": f.hyper_parameters} for f in fitted
        },
        "search_space": _search_space(tunable, task),
        "trials": search.trials[:_TRIALS_KEPT],
        "trials_done": len(search.trials),
        "trials_asked": trials,
        "seconds_asked": seconds,
        "stopped_by": search.stopped_by if tunable else None,
        "bit_reproducible": not tunable or search.stopped_by == "trials",
        "rows": {split: len(part) for split, part in data.parts.items()},
        "features": dict(data.kinds),
        "intervals": _intervals(len(test)),
        "slices": {"considered": slices.considered, "kept": slices.kept},
        "calibration_curve": calibrated.curve,
        "importances": importances,
        "importances_rows": min(len(data.parts[VALIDATION]), _SAMPLE),
    }
    predictions = evaluation.predictions_table(data.test[ROW_KEY], scored)
    return Trained(predictions, parameters, metrics, artifacts, notes)


def _baseline(data: _Data, metric: str, seed: int) -> _Fitted:
    from mlassets.modelling.pipelines import assemble, unfitted

    part = data.parts[TRAIN]
    estimator = unfitted("baseline", data.task, metric, {}, seed).fit(part.frame, _named(data, part.actual))
    fitted = _Fitted("baseline", assemble("passthrough", estimator), None)
    fitted.validation = _validation(data, fitted.pipeline, metric)
    return fitted


def _named(data: _Data, actual: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return targets as an estimator is fitted on them: class names, so that the stored model speaks them."""
    return np.array(data.classes, dtype=object)[actual] if data.task == "multiclass" else actual


def _validation(data: _Data, pipeline: Any, metric: str) -> float | None:
    part = data.parts[VALIDATION]
    if not len(part):
        return None
    scored = data.score(pipeline, part)
    if data.task == "binary" and metric in ("f1", "accuracy", "balanced_accuracy", "precision", "recall"):
        assert scored.probability is not None
        threshold, _ = evaluation.best_threshold(scored.actual, scored.probability, metric)
        predicted = (scored.probability >= threshold).astype(np.int64)
        scored = Scored(data.task, scored.actual, predicted, scored.probability)
    return evaluation.one_metric(scored, metric)


def _why_not(data: _Data, baseline: _Fitted, tunable: Sequence[str], metric: str, segment: str) -> str | None:
    """Say why nothing but the baseline can be trained, or None."""
    where = segment or "The table"
    kept = "The baseline was kept; widen the draw or merge the segment to train a real model."
    rows = len(data.parts[TRAIN])
    if rows < MIN_TRAINING_ROWS:
        return (
            f"{where} has {rows} rows in its training split; `{tunable[0]}` needs {MIN_TRAINING_ROWS}. {kept}"
        )
    if data.task != "regression" and len(np.unique(data.parts[TRAIN].actual)) < 2:
        return (
            f"{where} has one class in its training split of {rows} rows; there is nothing to learn. {kept}"
        )
    if not data.learnable:
        return f"{where} has no usable feature. The baseline was kept; see what model_ready dropped, and why."
    if baseline.validation is None:
        return (
            f"{where} has {len(data.parts[VALIDATION])} rows in its validation split, on which {metric} is not defined "
            f"(too few rows, or a class is absent), so candidates cannot be compared. {kept}"
        )
    return None


def _search(
    data: _Data,
    tunable: Sequence[str],
    metric: str,
    trials: int,
    seconds: float,
    seed: int,
    notes: list[str],
    progress: Callable[[str], None] | None,
) -> _Search:
    """Tune all candidates in one study, so that the promising ones get the more trials."""
    import optuna
    from sklearn.exceptions import ConvergenceWarning

    from mlassets.modelling.pipelines import (
        DEFAULTS,
        assemble,
        grow,
        preparation,
        settled,
        size_at,
        space,
        unfitted,
    )

    train_part, better = data.parts[TRAIN], METRICS[data.task][metric]
    sign = 1.0 if better else -1.0
    target, kinds = _named(data, train_part.actual), data.learnable
    if unknown := [name for name in data.kinds if name not in kinds]:
        notes.append(f"{', '.join(unknown)} left out: without a value in the training split.")
    prepared: dict[str, tuple[Any, Any]] = {}
    search = _Search()
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    deadline = time.monotonic() + seconds
    wanted = max(trials, len(tunable))
    unconverged: set[str] = set()
    try:
        study = optuna.create_study(
            direction="maximize" if better else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(5, 2 * len(tunable))),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
        )
        for candidate in tunable:
            defaults = {f"{candidate}.{name}": DEFAULTS[name] for name in space(candidate, data.task)}
            study.enqueue_trial({"candidate": candidate, **defaults})
        for number in range(wanted):
            if number >= len(tunable) and time.monotonic() >= deadline:
                search.stopped_by = "seconds"
                notes.append(
                    f"The search stopped after {number} of {wanted} trials, because {seconds:g} seconds had passed; "
                    "the same search on another day may end elsewhere."
                )
                break
            trial = study.ask()
            candidate = trial.suggest_categorical("candidate", list(tunable))
            values = {
                name: _suggest(trial, f"{candidate}.{name}", r)
                for name, r in space(candidate, data.task).items()
            }
            if candidate not in prepared:
                fitted = preparation(candidate, kinds)
                prepared[candidate] = (fitted, fitted.fit_transform(train_part.frame))
            preparing, x = prepared[candidate]
            estimator = unfitted(candidate, data.task, metric, values, seed)
            pipeline = assemble(preparing, estimator)
            value, best_stage, pruned = None, 0, False
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                for stage in grow(candidate, estimator, x, target):
                    reached = _validation(data, pipeline, metric)
                    if reached is None or (value is not None and sign * reached <= sign * value):
                        break
                    value, best_stage = reached, stage
                    # Each candidate has steps of its own: a first stage is no match for another's finished model.
                    trial.report(value, 100 * tunable.index(candidate) + stage)
                    if stage > 1 and trial.should_prune():
                        pruned = True
                        break
            if any(issubclass(w.category, ConvergenceWarning) for w in caught):
                unconverged.add(candidate)
            state = "pruned" if pruned else "failed" if value is None else "complete"
            if state == "complete":
                study.tell(trial, value)
                found = _Fitted(
                    candidate, pipeline, value, {**values, **size_at(candidate, best_stage)}, best_stage
                )
                best = search.best.get(candidate)
                if best is None or _best([best, found], metric, data.task) is found:
                    search.best[candidate] = found
            else:
                study.tell(trial, state=getattr(optuna.trial.TrialState, "PRUNED" if pruned else "FAIL"))
            search.trials.append(
                {
                    "number": number,
                    "candidate": candidate,
                    "hyper_parameters": values,
                    "validation": value,
                    "state": state,
                }
            )
            if progress:
                shown = "undefined" if value is None else f"{value:.4f}"
                progress(f"trial {number + 1}/{wanted}: {candidate} {metric} {shown} on validation ({state})")
    finally:
        optuna.logging.set_verbosity(verbosity)
    notes.extend(f"`{name}` did not converge in every trial." for name in sorted(unconverged))
    if search.best:
        winner = _best(list(search.best.values()), metric, data.task)
        settled(winner.candidate, winner.pipeline, winner.stage, prepared[winner.candidate][1], target)
        winner.validation = _validation(data, winner.pipeline, metric)
    return search


def _suggest(trial: Any, name: str, searched: tuple[str, float, float]) -> Any:
    how, low, high = searched
    if how == "log_int":
        return trial.suggest_int(name, int(low), int(high), log=True)
    return trial.suggest_float(name, low, high, log=how == "log")


def _best(fitted: Sequence[_Fitted], metric: str, task: Task) -> _Fitted:
    """Return the best on validation; of equals the first, so that the simpler one stays."""
    sign = 1.0 if METRICS[task][metric] else -1.0
    return max(fitted, key=lambda f: -np.inf if f.validation is None else sign * f.validation)


def _thresholded(fitted: _Fitted, data: _Data, metric: str) -> tuple[_Fitted, float | None, str | None]:
    """Give a binary model the threshold that is best on validation."""
    from mlassets.modelling.pipelines import with_threshold

    if data.task != "binary" or len(np.unique(data.parts[TRAIN].actual)) < 2:
        return fitted, None, None
    part = data.parts[VALIDATION]
    threshold, criterion = 0.5, "none"
    if len(part):
        scored = data.score(fitted.pipeline, part)
        assert scored.probability is not None
        threshold, criterion = evaluation.best_threshold(scored.actual, scored.probability, metric)
    train_part = data.parts[TRAIN]
    pipeline = with_threshold(fitted.pipeline, threshold, train_part.frame, train_part.actual)
    return (
        _Fitted(fitted.candidate, pipeline, fitted.validation, fitted.hyper_parameters),
        threshold,
        criterion,
    )


def _scored_or_empty(data: _Data, pipeline: Any, part: _Part) -> Scored:
    if len(part):
        return data.score(pipeline, part)
    shape = (0, len(data.classes)) if data.task == "multiclass" else (0,)
    probability = None if data.task == "regression" else np.zeros(shape)
    return Scored(data.task, part.actual, part.actual, probability, data.classes)


def _champion(data: _Data, champion: bytes, table: pa.Table) -> tuple[Scored | None, list[str]]:
    """Return the champion's outputs on the test rows, or a note on why it cannot be compared."""
    from mlassets.modelling.pipelines import as_frame, kinds_of, outputs

    if not len(data.parts[TEST]):
        return None, []
    try:
        pipeline = load_estimator(champion)
        known: Any = getattr(pipeline.steps[-1][1], "classes_", None)
        if data.task == "multiclass":
            if unknown := sorted({str(name) for name in known} - set(data.classes)):
                return None, [
                    f"The champion was not compared: it predicts classes that are gone ({', '.join(unknown)})."
                ]
        elif (known is None) != (data.task == "regression"):
            return None, ["The champion was not compared: it was trained for another task."]
        wanted = kinds_of(pipeline)
        frame = as_frame(data.test, {**data.kinds, **wanted})
        predicted, probability = outputs(pipeline, frame, data.task)
    except (MlassetsError, ValueError, TypeError, KeyError, AttributeError, pa.ArrowInvalid) as error:
        return None, [f"The champion was not compared: {error}"]
    scored = data.scored(data.parts[TEST].actual, predicted, probability, known)
    absent = sorted(set(wanted) - set(table.column_names))
    note = f"The champion's features {', '.join(absent)} are gone; it was compared with them missing."
    return scored, [note] if absent else []


def _test_metrics(
    scored: Scored, others: Mapping[str, Scored], task: Task, metric: str, seed: int
) -> dict[str, float]:
    """Return the test metrics of all models, and the gains in `metric`, paired on the same resamples."""
    if not len(scored):
        return {}
    models = {"model": scored, **{name: other for name, other in others.items() if other is not scored}}
    resampled = evaluation.resample(models, seed, wanted={name: [metric] for name in others})
    flat = {f"test.{name}": value for name, value in evaluation.with_intervals(resampled, "model").items()}
    for other in others:
        name = other if other in models else "model"
        flat |= {f"{other}.test.{measured}": value for measured, value in resampled.points[name].items()}
        if metric in resampled.points["model"] and metric in resampled.points[name]:
            gain, ends = resampled.gain("model", name, metric, task)
            flat[f"gain_over_{other}.{metric}"] = gain
            if ends:
                flat[f"gain_over_{other}.{metric}.low"], flat[f"gain_over_{other}.{metric}.high"] = ends
    return flat


def _note_absent(scored: Scored, task: Task, notes: list[str]) -> None:
    if not len(scored):
        notes.append("The test split has 0 rows: nothing is known about how good the model is.")
        return
    absent = [
        name for name in METRICS[task] if name not in evaluation.point_metrics(scored) and name != "mape"
    ]
    if absent:
        present = len(np.unique(scored.actual))
        notes.append(
            f"{', '.join(absent)} are not defined on the test split of {len(scored)} rows, "
            + (
                f"in which {present} of the classes occur."
                if task != "regression"
                else "whose target hardly varies."
            )
        )


def _slice_columns(data: _Data) -> dict[str, pa.ChunkedArray]:
    return {name: data.test[name] for name, kind in data.kinds.items() if kind != "numeric"}


def _probe(
    data: _Data, chosen: _Fitted, metric: str, seed: int
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return robustness and importances, measured on validation rows: the test split is touched once, elsewhere."""
    part = data.parts[VALIDATION].sample(_SAMPLE, seed)
    whole = data.score(chosen.pipeline, part)
    losses = robustness(
        lambda frame: data.score(chosen.pipeline, part, frame=frame),
        part.frame,
        whole,
        data.kinds,
        metric,
        seed=seed,
    )
    importances = explanation.permutation_importances(
        lambda frame, repeats: data.score(chosen.pipeline, part, repeats=repeats, frame=frame),
        part.frame,
        whole,
        metric,
        seed=seed,
    )
    return losses, importances


def _estimator_name(pipeline: Any) -> str:
    final = pipeline.steps[-1][1]
    final = getattr(getattr(final, "estimator_", final), "estimator", final)
    return type(final).__name__


def _search_space(tunable: Sequence[str], task: Task) -> dict[str, Any]:
    if not tunable:
        return {}
    from mlassets.modelling.pipelines import space

    return {name: {p: list(of) for p, of in space(name, task).items()} for name in tunable}


def _intervals(rows: int) -> dict[str, Any]:
    return {
        "method": "percentile bootstrap, paired for gains",
        "resamples": evaluation.RESAMPLES,
        "level": evaluation.LEVEL,
        "rows_per_resample": min(rows, evaluation.ROWS_PER_RESAMPLE),
    }
