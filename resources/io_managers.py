"""What stands between a Dagster step and the store: Drafts go in, Things come out.

`ThingIOManager` commits each step's `Draft` as a Thing, and hands a downstream step what its annotation asks
for. Whatever it hands out is what the downstream Thing is `based_on`: lineage is captured, not declared.
"""

import base64
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from resources.errors import MlassetsError
from resources.settings import Settings
from resources.things import Draft, Partition, Store, Thing

if TYPE_CHECKING:
    import pyarrow.dataset as ds

PICTURES_SHOWN = 4
ROWS_SHOWN = 5
COLUMNS_SHOWN = 12
METRICS_SHOWN = 40
TABLE_ROWS_SHOWN = 20
PARAMETERS_SHOWN = 50_000

# Metrics with these names are about a part of a Thing. There may be thousands, and the parts change.
_OF_PARTS = ("slice.", "segment.", "missing_share.")

# What each step of each run has read, and since when. Kept for the process, not for the manager: a step may be
# given its inputs by one manager and hand its output to another.
_read: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
_started: dict[tuple[str, str], datetime] = {}


class MissingThing(MlassetsError):
    """late-flights|EWR has no model_ready yet. Materialize model_ready for this partition first."""


class WrongOutput(MlassetsError):
    """The step `draw_data` returned a DataFrame; ThingIOManager stores a `resources.things.Draft`."""


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
    """Stores what a step returns as a Thing and loads Things for the steps downstream.

    A step returns a `Draft`, or a mapping from partition key to `Draft` when it runs for several partitions;
    each partition is committed on its own.

    A step receives, by the annotation of its input:
        * `Thing`: the handle (the default when there is no annotation);
        * `pyarrow.Table`: the dataset, or the columns named in the input's metadata under `columns`;
        * `pyarrow.dataset.Dataset`: the dataset, lazily;
        * `pandas.DataFrame`: the dataset;
        * `Upstream`: the Things of several partitions, of which those that are looked up count as read;
        * `dict` or `Mapping`: the same, and all of them count as read.

    Attributes:
        home: Folder of the deployment; `MLASSETS_HOME`, or `.mlassets`, where it is empty.
    """

    home: str | None = None

    @property
    def store(self) -> Store:
        """The store that this manager reads and writes."""
        return open_store(settings_of(self.home))

    def load_input(self, context: dg.InputContext) -> Any:
        """Hand over the newest Thing of the upstream partition(s) in the form the input is annotated with.

        Raises:
            MissingThing: If an upstream partition that the step needs holds no Thing.
        """
        reader = (context.step_context.run_id, context.step_context.step.key)
        _started.setdefault(reader, datetime.now(UTC))

        def on_read(thing_id: str) -> None:
            _read[reader][thing_id] = None

        step = context.asset_key.path[-1]
        found = {
            key: self.store.latest(step, to_partition(key, context.asset_partitions_def))
            for key in sorted(context.asset_partition_keys)
        }
        wanted = context.dagster_type.typing_type
        if len(found) > 1 or _is_mapping(wanted):
            upstream = Upstream({key: thing for key, thing in found.items() if thing is not None}, on_read)
            # Dagster accepts nothing but a dict where any mapping is asked for.
            return upstream if wanted is Upstream or not _is_mapping(wanted) else dict(upstream)
        ((key, thing),) = found.items()
        if thing is None:
            raise MissingThing(f"{key} has no {step} yet. Materialize {step} for this partition first.")
        on_read(thing.id)
        return _as(wanted, thing, columns=(context.definition_metadata or {}).get("columns"))

    def handle_output(self, context: dg.OutputContext, obj: Draft | Mapping[str, Draft]) -> None:
        """Commit the step's result: one Thing for each partition of the run.

        Raises:
            WrongOutput: If the step returned anything but a `Draft`, or not one for each partition.
        """
        step = context.asset_key.path[-1]
        keys = list(context.asset_partition_keys)
        drafts = {keys[0]: obj} if isinstance(obj, Draft) and len(keys) == 1 else obj
        if not isinstance(drafts, Mapping) or set(drafts) != set(keys):
            raise WrongOutput(
                f"The step `{step}` returned {type(obj).__name__} for {len(keys)} partition(s); return a "
                "resources.things.Draft, or a mapping from each partition key to one."
            )
        writer = (context.run_id, context.step_key)
        read = tuple(_read.pop(writer, ()))
        started = _started.pop(writer, None)
        for key, draft in drafts.items():
            thing = self.store.commit(
                step,
                to_partition(key, context.asset_partitions_def),
                replace(draft, based_on=(*draft.based_on, *read)),
                run_id=context.run_id,
                started_at=started,
            )
            if len(keys) == 1:
                # Dagster keeps one data version per step; with several partitions its own default is safer
                # than the last one's.
                context.step_context.set_data_version(context.asset_key, dg.DataVersion(thing.data_version))
                context.add_output_metadata(
                    metadata_of(thing, self.store, settings_of(self.home).reports_url)
                )


def settings_of(home: str | None) -> Settings:
    """Return the settings of a deployment; its home comes from the environment where `home` is None."""
    return Settings.load(home=Path(home)) if home else Settings.load()


def to_partition(key: str, definition: dg.PartitionsDefinition) -> Partition:
    """Return the store's partition for a key of any partitions definition.

    The dimension names are those of the definition: a `project` × `segment` key becomes
    `project=late-flights/segment=EWR` on disk.
    """
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return Partition.parse(key, tuple(dimension.name for dimension in definition.partitions_defs))
    return Partition.parse(key, (getattr(definition, "name", None) or "partition",))


def metadata_of(thing: Thing, store: Store, reports_url: str | None = None) -> dict[str, dg.MetadataValue]:
    """Return what a person wants to see of a Thing in Dagster's UI, and no more than a page of it.

    Numbers (rows and the metrics of the Thing as a whole) plot over time there; intervals and what was measured
    on parts of it stand in tables; the schema, the first rows and the pictures are shown where Dagster shows such
    things.

    Args:
        thing: The Thing.
        store: The store that holds what it is based on.
        reports_url: Address under which reports are served, if they are.
    """
    metadata: dict[str, dg.MetadataValue] = {"thing": dg.MetadataValue.text(thing.id)}
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
        metadata["dagster/row_count"] = dg.MetadataValue.int(thing.scan().count_rows())
    metadata |= _metrics_of(thing)
    if thing.based_on:
        metadata["based on"] = _based_on(thing, store)
    parameters = json.dumps(thing.parameters, default=str)
    metadata["parameters"] = (
        dg.MetadataValue.json(dict(thing.parameters))
        if len(parameters) <= PARAMETERS_SHOWN
        else dg.MetadataValue.text(
            f"{len(parameters):,} characters, too many to show here; see its thing.json"
        )
    )
    if thing.schema is not None:
        metadata["dagster/column_schema"] = dg.MetadataValue.table_schema(
            dg.TableSchema(columns=[dg.TableColumn(field.name, str(field.type)) for field in thing.schema])
        )
        metadata["first rows"] = _first_rows(thing.scan())
    pictures = [name for name in thing.artifacts if name.endswith(".png")]
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
        other = store.get(one)
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


def _first_rows(scan: "ds.Dataset") -> dg.MetadataValue:
    rows = scan.head(ROWS_SHOWN, columns=scan.schema.names[:COLUMNS_SHOWN]).to_pylist()
    return _table(rows) if rows else dg.MetadataValue.text("no rows")


def _plain(value: object) -> str | int | float | bool | None:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _is_mapping(wanted: Any) -> bool:
    origin = getattr(wanted, "__origin__", wanted)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _as(wanted: Any, thing: Thing, columns: list[str] | None) -> Any:
    if wanted is pa.Table:
        return thing.table(columns=columns)
    # By name: importing either package here would make every load of a code location wait for pandas.
    package, name = getattr(wanted, "__module__", "").partition(".")[0], getattr(wanted, "__name__", "")
    if (package, name) == ("pyarrow", "Dataset"):
        return thing.scan()
    if (package, name) == ("pandas", "DataFrame"):
        return thing.table(columns=columns).to_pandas()
    return thing
