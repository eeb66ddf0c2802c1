"""What stands between a Dagster step and the store: values go in as Things, and come out as what is asked for.

`ThingIOManager` commits what each step returns as a Thing, and hands a downstream step what its annotation asks
for. Whatever it hands out is what the downstream Thing is `based_on`: lineage is captured, not declared.
"""

import base64
import json
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg

from resources.errors import MlassetsError
from resources.lake import hash_bytes
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing, UnknownThing
from resources.values import WrongForm, draft_of, is_optional, plain_type, value_of

PICTURES_SHOWN = 4
ROWS_SHOWN = 5
COLUMNS_SHOWN = 12
METRICS_SHOWN = 40
TABLE_ROWS_SHOWN = 20
PARAMETERS_SHOWN = 50_000
SCHEMA_SHOWN = 1_000

# Metrics with these names are about a part of a Thing. There may be thousands, and the parts change.
_OF_PARTS = ("slice.", "segment.", "missing_share.")

ALLOW_MISSING = "allow_missing_partitions"
"""Dagster's own metadata key for an input that is handed over without the partitions that are not there."""


class MissingThing(MlassetsError):
    """late-flights|EWR has no model_ready yet. Materialize model_ready for this partition first."""


class WrongOutput(MlassetsError):
    """The step `draw_data` returned one value for 2 partitions; return a mapping from each partition key to one."""


class PartlyCommitted(MlassetsError):
    """The step `draw_data` failed at partition 3; 1 and 2 are committed and stay. Run it again for 3 and 4."""


@dataclass
class _Reading:
    """What a step has read, and since when."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    things: dict[str, None] = field(default_factory=dict)


# Kept for the process, not for the manager: a step may be given its inputs by one manager and hand its output to
# another. Dagster drops a step's context when the step has ended, however it ended, and what was noted goes with it.
_readings: "WeakKeyDictionary[object, _Reading]" = WeakKeyDictionary()


@lru_cache(maxsize=8)
def open_store(settings: Settings) -> Store:
    """Open the store of `settings` once per process; later calls return the same one."""
    return Store.open(settings)


class Upstream(Mapping[str, Thing]):
    """The newest Things of several upstream partitions, by partition key.

    Only partitions that hold a Thing are listed. Looking one up counts as reading it: it becomes part of the
    reader's lineage. Listing the keys does not.
    """

    def __init__(self, things: Mapping[str, Thing], on_read: Callable[[str], None]) -> None:
        self._things = dict(things)
        self._on_read = on_read

    def __getitem__(self, key: str) -> Thing:
        thing = self._things[key]
        self._on_read(thing.id)
        return thing

    def __contains__(self, key: object) -> bool:
        return key in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


class ThingIOManager(dg.ConfigurableIOManager):
    """Stores what a step returns as a Thing and hands it to the steps downstream in the form they ask for.

    A step returns a table (pandas, pyarrow, polars; whole, lazy or as a stream), a numpy array, a scikit-learn
    estimator, bytes, what JSON can hold, or a `Draft` of all that a Thing may have. When it runs for several
    partitions it returns a mapping from partition key to any of these; each partition is committed on its own.

    A step receives, by the annotation of its input, any of these forms, or a `Thing` (the handle, also where there
    is no annotation). For several upstream partitions it receives:
        * `dict[str, X]` or `Mapping[str, X]`: each of them as an X;
        * `Upstream`: their Things, of which those that are looked up count as read.

    The metadata of an input may say which `columns` and which rows (`filter`) of a table are to be read, and with
    `allow_missing_partitions` that partitions which are not there are left out.

    Attributes:
        home: Folder of the deployment; `MLASSETS_HOME`, or `.mlassets`, where it is empty.
        trusted_types: Full names of types that estimators may hold beside those that skops trusts.
    """

    home: str | None = None
    trusted_types: list[str] = []

    @property
    def store(self) -> Store:
        """The store that this manager reads and writes."""
        return open_store(settings_of(self.home))

    def load_input(self, context: dg.InputContext) -> Any:
        """Hand over the newest Thing of the upstream partition(s) in the form the input is annotated with.

        Raises:
            MissingThing: If upstream partitions that the step needs hold no Thing.
            WrongForm: If what is stored cannot be given in this form.
        """
        _refuse_what_is_no_asset(context)
        reading = _reading_of(context)

        def on_read(thing_id: str) -> None:
            reading.things[thing_id] = None

        step = step_name(context.asset_key)
        metadata = context.definition_metadata or {}
        wanted = context.dagster_type.typing_type
        partitioned = context.has_asset_partitions
        several = partitioned and _is_mapping(wanted)
        found = self._find(context, step)
        missing = [key for key, thing in found.items() if thing is None]
        leave_out = bool(metadata.get(ALLOW_MISSING)) and (several or len(found) != 1 or is_optional(wanted))
        if missing and not leave_out:
            raise MissingThing(_missing(step, missing, found, partitioned))
        there = {key: thing for key, thing in found.items() if thing is not None}
        if wanted is Upstream or (len(found) != 1 and plain_type(wanted) in (None, Any)):
            return Upstream(there, on_read)

        def hand_over(key: str, thing: Thing, form: Any) -> Any:
            on_read(thing.id)
            of = f"`{step}` of {key}" if partitioned else f"`{step}`"
            return value_of(
                thing,
                form,
                where=f"{_reader(context)} asks for {of}",
                columns=metadata.get("columns"),
                filter=metadata.get("filter"),
                trusted=self.trusted_types,
            )

        if several:
            form = (typing.get_args(wanted) or (None, None))[1]
            return {key: hand_over(key, thing, form) for key, thing in there.items()}
        if len(found) != 1:
            raise WrongForm(
                f"{_reader(context)} asks for {len(found)} partitions of `{step}` as one {wanted}; annotate the input "
                "with dict[str, …] of it, or change its partition mapping"
            )
        for key, thing in there.items():
            return hand_over(key, thing, wanted)
        return None

    def _find(self, context: dg.InputContext, step: str) -> dict[str, Thing | None]:
        if not context.has_asset_partitions:
            return {WHOLE: self.store.latest(step, to_partition(WHOLE, None))}
        definition = context.asset_partitions_def
        return {
            key: self.store.latest(step, to_partition(key, definition))
            for key in sorted(context.asset_partition_keys)
        }

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Commit the step's result: one Thing for each partition of the run.

        Raises:
            WrongOutput: If the step did not return one value for each partition.
            UnstorableValue: If a value would not come back as it is.
            PartlyCommitted: If one of several partitions cannot be committed.
        """
        _refuse_what_is_no_asset(context)
        step = step_name(context.asset_key)
        partitioned = context.has_asset_partitions
        keys = sorted(context.asset_partition_keys) if partitioned else [WHOLE]
        values = _by_partition(step, obj, keys) if partitioned else {WHOLE: obj}
        reading = _reading_of(context)
        versions: dict[str, str] = {}
        for key in keys:
            where = f"The step `{step}`, partition {key}," if partitioned else f"The step `{step}`"
            try:
                thing = self.store.commit(
                    step,
                    to_partition(key, context.asset_partitions_def if partitioned else None),
                    draft_of(values[key], where, self.trusted_types).with_based_on(reading.things),
                    run_id=context.run_id,
                    started_at=reading.started,
                )
            except Exception as error:
                if len(keys) == 1:
                    raise
                raise PartlyCommitted(_partly(step, key, list(versions), keys, error)) from error
            versions[key] = thing.data_version
            settings = settings_of(self.home)
            metadata = metadata_of(thing, self.store, settings.reports_url, settings.things_url)
            if len(keys) == 1:
                context.add_output_metadata(metadata)
            else:
                context.step_context.add_asset_metadata(metadata, context.asset_key, partition_key=key)
        # Dagster keeps one data version for a step. That of several partitions changes with any of them, so that what
        # is downstream may be made again for nothing, but never is missed.
        whole = (
            versions[keys[0]] if len(keys) == 1 else hash_bytes(json.dumps(sorted(versions.items())).encode())
        )
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(whole))


WHOLE = "all"
"""The partition of what has none."""


def step_name(key: dg.AssetKey) -> str:
    """Return the step whose Things an asset is: its key, with `/` between the parts."""
    return key.to_user_string()


def _refuse_what_is_no_asset(context: dg.InputContext | dg.OutputContext) -> None:
    if not context.has_asset_key:
        raise WrongOutput(
            f"{context.name!r} belongs to an op and not to an asset; ThingIOManager stores assets. Give the op's "
            "outputs another io_manager_key, such as Dagster's FilesystemIOManager"
        )


def _reading_of(context: dg.InputContext | dg.OutputContext) -> _Reading:
    try:
        step = context.step_context
    except dg.DagsterInvariantViolationError:
        # Outside of a run, as in `Definitions.load_asset_value`: nothing comes of it that would have a lineage.
        return _Reading()
    return _readings.setdefault(step, _Reading())


def _reader(context: dg.InputContext) -> str:
    try:
        return f"The step `{context.step_context.step.key}`"
    except dg.DagsterInvariantViolationError:
        return "Whoever loads it"


def _missing(step: str, missing: Sequence[str], found: Mapping[str, Any], partitioned: bool) -> str:
    if not partitioned:
        return f"There is no {step} yet. Materialize {step} first."
    if len(found) == 1:
        return f"{missing[0]} has no {step} yet. Materialize {step} for this partition first."
    return (
        f"{len(missing)} of {len(found)} partitions have no {step} yet: {', '.join(missing)}. Materialize {step} for "
        f"them first, or put `{ALLOW_MISSING}: True` into the metadata of the input to go on without them."
    )


def _by_partition(step: str, obj: Any, keys: Sequence[str]) -> Mapping[str, Any]:
    """Return what is to be stored for each partition.

    Raises:
        WrongOutput: If it is not one value for each of several partitions, or if a dict could be either.
    """
    if len(keys) > 1:
        if not isinstance(obj, Mapping) or set(obj) != set(keys):
            raise WrongOutput(
                f"The step `{step}` returned {_described(obj)} for {len(keys)} partitions ({', '.join(keys)}); return "
                "a mapping from each partition key to its value."
            )
        return obj
    if isinstance(obj, Mapping):
        holds_values = any(not isinstance(one, _JSON_LIKE) for one in obj.values())
        if set(obj) == set(keys):
            if holds_values:
                return obj
            raise WrongOutput(
                f"The step `{step}` returned a dict whose only key is that of its partition, {keys[0]}: that may mean "
                "one value for the partition, or the dict itself. Return the value alone, or the dict within another."
            )
        if any(isinstance(one, Draft) for one in obj.values()) or not isinstance(obj, dict):
            raise WrongOutput(
                f"The step `{step}` returned {_described(obj)} for the partition {keys[0]}; return one value, or a "
                "mapping from this partition's key to it."
            )
    return {keys[0]: obj}


_JSON_LIKE = (dict, list, str, int, float, type(None))


def _described(obj: Any) -> str:
    if isinstance(obj, Mapping):
        return f"a {type(obj).__name__} with the keys {', '.join(map(str, obj)) or '(none)'}"
    return f"a {type(obj).__name__}"


def _partly(step: str, failed: str, committed: Sequence[str], keys: Sequence[str], error: Exception) -> str:
    left = [key for key in keys if key not in committed]
    kept = f"{', '.join(committed)} committed and kept" if committed else "nothing was committed"
    return (
        f"The step `{step}` could not commit the partition {failed}: {error}. Of its {len(keys)} partitions, {kept}; "
        f"run it again for {', '.join(left)}."
    )


def settings_of(home: str | None) -> Settings:
    """Return the settings of a deployment; its home comes from the environment where `home` is None."""
    return Settings.load(home=Path(home)) if home else Settings.load()


def to_partition(key: str, definition: dg.PartitionsDefinition | None) -> Partition:
    """Return the store's partition for a key of any partitions definition, or of none.

    The dimension names are those of the definition: a `project` × `segment` key becomes
    `project=late-flights/segment=EWR` on disk.
    """
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return Partition.parse(key, tuple(dimension.name for dimension in definition.partitions_defs))
    return Partition.parse(key, (getattr(definition, "name", None) or "partition",))


def metadata_of(
    thing: Thing, store: Store, reports_url: str | None = None, things_url: str | None = None
) -> dict[str, dg.MetadataValue]:
    """Return what a person wants to see of a Thing in Dagster's UI, and no more than a page of it.

    Numbers (rows and the metrics of the Thing as a whole) plot over time there; intervals and what was measured
    on parts of it stand in tables; the schema, the first rows and the pictures are shown where Dagster shows such
    things.

    Args:
        thing: The Thing.
        store: The store that holds what it is based on.
        reports_url: Address under which reports are served, if they are.
        things_url: Address under which Things are shown, if they are.
    """
    metadata: dict[str, dg.MetadataValue] = {"thing": dg.MetadataValue.text(thing.id)}
    if things_url:
        metadata["thing page"] = dg.MetadataValue.url(f"{things_url}/{thing.id}")
    if reports_url:
        metadata["report page"] = dg.MetadataValue.url(f"{reports_url}/{thing.id}")
    for name in thing.artifacts:
        if name.endswith(".html"):
            metadata[name.removesuffix(".html")] = (
                dg.MetadataValue.url(f"{reports_url}/{thing.id}/{name}")
                if reports_url
                else dg.MetadataValue.path(thing.artifact_path(name))
            )
    if thing.schema is not None:
        counts = [one.rows for one in thing.files.values()]
        rows = thing.scan().count_rows() if None in counts else thing.rows
        metadata["dagster/row_count"] = dg.MetadataValue.int(rows or 0)
    metadata |= _metrics_of(thing)
    if thing.based_on:
        metadata["based on"] = _based_on(thing, store)
    parameters = json.dumps(thing.parameters, default=str)
    metadata["parameters"] = (
        dg.MetadataValue.json(json.loads(parameters))
        if len(parameters) <= PARAMETERS_SHOWN
        else dg.MetadataValue.text(
            f"{len(parameters):,} characters, too many to show here; see its thing.json"
        )
    )
    if thing.schema is not None:
        fields = list(thing.schema)[:SCHEMA_SHOWN]
        metadata["dagster/column_schema"] = dg.MetadataValue.table_schema(
            dg.TableSchema(columns=[dg.TableColumn(field.name, str(field.type)) for field in fields])
        )
        if len(fields) < len(thing.schema):
            metadata["columns"] = dg.MetadataValue.text(
                f"{len(thing.schema):,}, of which {SCHEMA_SHOWN:,} are shown"
            )
        metadata["first rows"] = _first_rows(thing)
    if thing.labels:
        metadata["labels"] = dg.MetadataValue.json(json.loads(json.dumps(thing.labels, default=str)))
    pictures = [
        name
        for name, one in thing.artifacts.items()
        if name.endswith(".png") or one.form == "matplotlib.Figure"
    ]
    for name in pictures[:PICTURES_SHOWN]:
        encoded = base64.b64encode(thing.artifact(name)).decode()
        metadata[name.removesuffix(".png")] = dg.MetadataValue.md(
            f"![{name}](data:image/png;base64,{encoded})"
        )
    return metadata


def _metrics_of(thing: Thing) -> dict[str, dg.MetadataValue]:
    """Return the metrics of the whole as numbers, those on the test split first, and all others in tables."""
    metrics = thing.metrics
    bounds = {f"{name}.{end}" for name in metrics for end in ("low", "high")} & set(metrics)
    parts = [name for name in metrics if name.startswith(_OF_PARTS) and name not in bounds]
    whole = [name for name in metrics if name not in bounds and not name.startswith(_OF_PARTS)]
    whole.sort(key=lambda name: not name.startswith("test."))
    shown: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.float(value) if math.isfinite(value) else dg.MetadataValue.text(str(value))
        for name, value in ((name, metrics[name]) for name in whole[:METRICS_SHOWN])
    }
    intervals = [
        {
            "metric": name,
            "value": _short(metrics[name]),
            "from": _short(metrics[f"{name}.low"]),
            "to": _short(metrics[f"{name}.high"]),
        }
        for name in metrics
        if {f"{name}.low", f"{name}.high"} <= bounds
    ]
    others = [{"metric": name, "value": _short(metrics[name])} for name in (*whole[METRICS_SHOWN:], *parts)]
    for title, rows in (("intervals", intervals), ("measured on parts", others)):
        if rows:
            shown[title] = _table(rows)
    return shown


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _based_on(thing: Thing, store: Store) -> dg.MetadataValue:
    rows = []
    for one in thing.based_on[:TABLE_ROWS_SHOWN]:
        try:
            other = store.get(one)
        except UnknownThing:
            # It may be in the lake only, or in another lake; `mlassets catalog sync` adopts what is in this one.
            rows.append({"step": None, "partition": None, "version": one})
        else:
            rows.append({"step": other.step, "partition": other.partition.key, "version": other.id})
    return _table(rows, left=len(thing.based_on) - len(rows))


def _table(rows: Sequence[Mapping[str, Any]], left: int = 0) -> dg.MetadataValue:
    """Return rows as a table of at most `TABLE_ROWS_SHOWN`, whose last row says how many more there are."""
    shown = list(rows[:TABLE_ROWS_SHOWN])
    left += len(rows) - len(shown)
    if left:
        shown.append(
            {name: f"and {left:,} more" if name == next(iter(rows[0])) else None for name in rows[0]}
        )
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _plain(value) for name, value in row.items()}) for row in shown],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in rows[0]]),
    )


def _first_rows(thing: Thing) -> dg.MetadataValue:
    names = thing.schema.names[:COLUMNS_SHOWN] if thing.schema is not None else []
    rows = thing.first_rows(ROWS_SHOWN, names).to_pylist()
    return _table(rows) if rows else dg.MetadataValue.text("no rows")


def _plain(value: object) -> str | int | float | bool | None:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _is_mapping(wanted: Any) -> bool:
    """Say whether an annotation asks for several partitions; a bare `dict` is one value."""
    origin = getattr(wanted, "__origin__", wanted)
    return isinstance(origin, type) and issubclass(origin, Mapping) and wanted is not dict
