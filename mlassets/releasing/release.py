"""A release: the approved predictions, the models that made them in one bundle, and a model card."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.modelling.features import with_target
from mlassets.projects import ProjectSpec
from mlassets.releasing.bundles import MODEL_FILE, Bundle, make_bundle
from mlassets.steps import DRAW_DATA, MODEL_READY, PUBLISH
from resources import releases
from resources.errors import MlassetsError
from resources.releases import CHAMPION
from resources.roles import ROW_KEY, SPLIT
from resources.store import Store
from resources.things import Partition, Thing, UnknownThing


class RoundTripFailed(MlassetsError):
    """The bundle of late-flights predicts differently from the released predictions; nothing was published."""


@dataclass(frozen=True)
class Release:
    """What publish commits.

    Attributes:
        predictions: The released predictions of all segments.
        parameters: Release name, alias, and the version ids of all that it holds.
        artifacts: `bundle.zip` and `model_card.md`.
        round_trip_error: Largest absolute difference between the released predictions and those of the bundle,
            loaded anew.
    """

    predictions: pa.Table
    parameters: dict[str, Any]
    artifacts: dict[str, bytes]
    round_trip_error: float


def champion_of(store: Store, project: str) -> Thing | None:
    """Return the release of a project that is its champion, if there is one."""
    return releases.champion(store, PUBLISH, Partition.project(project))


def challenger_of(store: Store, project: str) -> Thing | None:
    """Return the release of a project that is its challenger, if there is one."""
    return releases.challenger(store, PUBLISH, Partition.project(project))


def champion_model(store: Store, partition: Partition) -> bytes | None:
    """Return the released model of a segment, as it was stored; None if the segment has none.

    Looking it up counts as reading it: a model that was compared with the champion is based on it.
    """
    champion = champion_of(store, partition["project"])
    model_id = champion.parameters["models"].get(partition["segment"]) if champion else None
    return store.read(model_id).artifact(MODEL_FILE) if model_id else None


def champion_ready(store: Store, partition: Partition) -> Thing | None:
    """Return the model-ready rows that the released model of a segment was trained on; None if it has none."""
    champion = champion_of(store, partition["project"])
    model_id = champion.parameters["models"].get(partition["segment"]) if champion else None
    return made_from(store, store.get(model_id), MODEL_READY) if model_id else None


def champion_draw(store: Store, partition: Partition) -> Thing | None:
    """Return the draw that the released model of a segment was trained on; None if the segment has none."""
    ready = champion_ready(store, partition)
    return made_from(store, ready, DRAW_DATA) if ready else None


def made_from(store: Store, thing: Thing, step: str) -> Thing:
    """Return the Thing of `step` that `thing` was made from directly.

    Raises:
        UnknownThing: If it is based on none.
    """
    for one in map(store.get, thing.based_on):
        if one.step == step and one.partition == thing.partition:
            return one
    raise UnknownThing(f"{thing} is not based on any {step}")


def make_release(store: Store, review: Thing, spec: ProjectSpec, alias: str = CHAMPION) -> Release:
    """Gather the approved version and prove that its bundle predicts the same.

    Raises:
        RoundTripFailed: If a model of the bundle, loaded anew, predicts anything else than was approved.
    """
    aggregate = store.read(review.parameters["aggregate"])
    models = {name: store.read(one) for name, one in aggregate.parameters["models"].items()}
    predictions = aggregate.table()
    parameters = {
        "release": f"{spec.project} {review.created_at:%Y-%m-%d %H:%M:%S}",
        "alias": alias,
        "review": review.id,
        "aggregate": aggregate.id,
        "models": {name: thing.id for name, thing in models.items()},
    }
    bundle = bundle_of(store, spec, models)
    error = round_trip_error(store, bundle, models, predictions)
    if error != 0:
        raise RoundTripFailed(
            f"The bundle of {spec.project} predicts differently from the released predictions (largest difference "
            f"{error:.3g}); nothing was published. Run `model` of its segments again."
        )
    card = model_card(spec, review, aggregate, models)
    return Release(predictions, parameters, {"bundle.zip": bundle, "model_card.md": card.encode()}, error)


def bundle_of(store: Store, spec: ProjectSpec, models: Mapping[str, Thing]) -> bytes:
    """Return the bundle of a project's models, with how raw rows become what they were trained on."""
    ready = {name: made_from(store, model, MODEL_READY) for name, model in models.items()}
    draws = {name: made_from(store, one, DRAW_DATA) for name, one in ready.items()}
    return make_bundle(spec, models, ready, draws)


def round_trip_error(store: Store, bundle: bytes, models: Mapping[str, Thing], released: pa.Table) -> float:
    """Return the largest absolute difference between released predictions and those of the bundle.

    The bundle is given raw rows, as whoever uses it has them; one that older code published, model-ready rows. Rows
    and values that only one side has, and labels that differ, count as an infinite difference.
    """
    loaded = Bundle(bundle)
    largest = 0.0
    for segment, model in models.items():
        again = _predicted_again(store, loaded, model, segment).sort_by(ROW_KEY)
        before = released.filter(pc.equal(released["segment"], segment)).sort_by(ROW_KEY)
        if not again[ROW_KEY].combine_chunks().equals(before[ROW_KEY].combine_chunks()):
            return float("inf")
        for name in again.column_names:
            old, new = before[name].combine_chunks(), again[name].combine_chunks()
            if old.equals(new):
                continue
            if not pa.types.is_floating(old.type) or old.null_count or new.null_count:
                return float("inf")
            differences = np.abs(old.to_numpy() - new.to_numpy())
            largest = max(largest, float("inf") if np.isnan(differences).any() else float(differences.max()))
    return largest


def _predicted_again(store: Store, bundle: Bundle, model: Thing, segment: str) -> pa.Table:
    """Return what the bundle predicts for the rows that a model was tested on, by their keys."""
    ready = made_from(store, model, MODEL_READY)
    if not bundle.takes_raw_rows(segment):
        return bundle.predict_ready(ready.table(filter=pc.field(SPLIT) == "test"), segment)
    marked = ready.table([ROW_KEY, SPLIT])
    draw, how = made_from(store, ready, DRAW_DATA).table(), ready.parameters
    raw = with_target(draw, target=how["target"], task=how["task"], positive=how.get("positive"))
    in_test = pc.equal(marked[SPLIT], "test")
    again: pa.Table = bundle.predict(raw.filter(in_test), segment)
    # Rows without a key of their own are numbered anew: those are numbers within the draw.
    return again.set_column(0, ROW_KEY, marked[ROW_KEY].filter(in_test))


def model_card(spec: ProjectSpec, review: Thing, aggregate: Thing, models: Mapping[str, Thing]) -> str:
    """Return a Markdown page that says what the release is, what it is good for and how good it is."""
    metric = spec.model.metric
    lines = [
        f"# {spec.project}",
        "",
        _text(spec.description),
        "",
        f"- target: {_text(spec.target.column)} ({spec.target.task})",
        f"- owners: {', '.join(spec.owners) or 'none named'}",
        f"- decision: {review.parameters['decision']} by {_text(review.parameters['decided_by'])} "
        f"({_text(review.parameters['comment'])})",
        f"- pooled test {metric}: {aggregate.metrics.get(f'test.{metric}', float('nan')):.4f} "
        f"on {aggregate.rows or 0:,} rows",
        "",
        f"| segment | estimator | test rows | {metric} (95 % interval) | baseline |",
        "|---|---|---|---|---|",
    ]
    for name, thing in sorted(models.items()):
        got = {end: thing.metrics.get(f"test.{metric}{end}", float("nan")) for end in ("", ".low", ".high")}
        baseline = thing.metrics.get(f"baseline.test.{metric}", float("nan"))
        lines.append(
            f"| {_text(name)} | {thing.parameters['estimator']} | {thing.rows or 0:,} | "
            f"{got['']:.4f} ({got['.low']:.4f} to {got['.high']:.4f}) | {baseline:.4f} |"
        )
    return "\n".join([*lines, ""])


def _text(text: str) -> str:
    """Return what a user wrote as one line of Markdown that shows it as it is."""
    line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"[\\`*_\[\]|#~]", lambda found: f"\\{found[0]}", line)
