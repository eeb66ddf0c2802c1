"""What differs between two Things: parameters, metrics, columns, rows, code, packages, spec and inputs.

>>> from mlassets.differences import changes
>>> changes({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}, "d": None})
[Change(name='b.c', kind='changed', before=2, after=3), Change(name='d', kind='added', before=None, after=None)]
"""

import json
import math
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import resources
from mlassets.steps import AGGREGATE, MODEL
from resources.catalog import flat
from resources.errors import MlassetsError
from resources.roles import ROW_KEY
from resources.row_changes import RowChanges, compare_rows, same_value
from resources.store import Store
from resources.things import Thing

if TYPE_CHECKING:
    import pyarrow as pa

    from mlassets.projects import ProjectSpec

EXAMPLES = 5
_COMMITS_SHOWN = 100
_SEGMENT = "segment"


class NotComparable(MlassetsError):
    """The key column `flight` is not in both datasets; `--key` names columns of both."""


@dataclass(frozen=True)
class Change:
    """One value that differs.

    Attributes:
        name: What it is the value of; dotted where values are nested.
        kind: `added`: only the second has it; `removed`: only the first; `changed`.
        before: The first one's value.
        after: The second one's.
    """

    name: str
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


@dataclass(frozen=True)
class MetricChange:
    """One metric that differs, with the intervals that were measured.

    Attributes:
        name: The metric.
        before: The first one's value; None if it was not measured.
        after: The second one's.
        before_interval: The first one's 95 % interval, if there is one.
        after_interval: The second one's.
    """

    name: str
    before: float | None
    after: float | None
    before_interval: tuple[float, float] | None = None
    after_interval: tuple[float, float] | None = None

    @property
    def change(self) -> float | None:
        """The second value less the first."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Paired:
    """How much better the second of two models is on the same test rows.

    Attributes:
        metric: The project's metric.
        rows: The rows that both predicted.
        gain: Positive is better, whichever direction the metric has.
        interval: 95 % interval, paired on the same resamples.
    """

    metric: str
    rows: int
    gain: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class CodeChanges:
    """How the code differs that two Things were made with.

    Attributes:
        values: Code version, commits, uncommitted changes.
        range: What `git diff` takes; empty where both were made from one commit, or outside of git.
        commits: Subjects of the commits of the range, newest first.
        files: Files that the range changes, with what `git` says of them (`M`, `A`, `D`).
        note: Why the range could not be looked at; empty if it was.
    """

    values: tuple[Change, ...] = ()
    range: str = ""
    commits: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Differences:
    """All that differs between two Things; what is empty is the same in both.

    Attributes:
        before: The first.
        after: The second.
        files: Files, by name, whose bytes differ.
        parameters: What was chosen.
        metrics: What was measured.
        paired: Two models on the same test rows, where there are such.
        labels: Labels.
        columns: Columns of the dataset, with their types.
        rows: Rows of the dataset.
        inputs: What they were made from, by step and partition.
        code: Their code.
        packages: Their packages, python and platform.
        spec: Their whole specs.
        notes: What could not be compared, and why.
    """

    before: Thing
    after: Thing
    files: tuple[Change, ...] = ()
    parameters: tuple[Change, ...] = ()
    metrics: tuple[MetricChange, ...] = ()
    paired: Paired | None = None
    labels: tuple[Change, ...] = ()
    columns: tuple[Change, ...] = ()
    rows: RowChanges = field(default_factory=RowChanges)
    inputs: tuple[Change, ...] = ()
    code: CodeChanges = CodeChanges()
    packages: tuple[Change, ...] = ()
    spec: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def same_content(self) -> bool:
        """Whether all files of both hold the same bytes."""
        return self.before.data_version == self.after.data_version

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values that JSON can hold."""
        parts = {name: value for name, value in vars(self).items() if name not in ("before", "after")}
        told = {name: plain(value) for name, value in parts.items()}
        for metric, one in zip(told["metrics"], self.metrics, strict=True):
            metric["change"] = plain(one.change)
        return {
            "before": _identity(self.before),
            "after": _identity(self.after),
            "same_content": self.same_content,
            **told,
        }


def diff(
    store: Store,
    before: Thing | str,
    after: Thing | str,
    *,
    key: Sequence[str] = (),
    examples: int = EXAMPLES,
) -> Differences:
    """Say what differs between two Things.

    Rows are compared by key in DuckDB, which spills to disk what does not fit its memory.

    Args:
        store: The store.
        before: The first: a Thing, or what `Store.get` takes.
        after: The second.
        key: Columns that tell which row is which; by default the row key, else the key of the spec, else none: then
            whole rows are compared.
        examples: How many rows of each kind are shown.

    Raises:
        UnknownThing: If there is no such Thing.
        NotComparable: If a dataset has no such key column.
    """
    first, second = (store.get(one) if isinstance(one, str) else one for one in (before, after))
    notes: list[str] = []
    if (first.step, first.partition) != (second.step, second.partition):
        notes.append(f"they are not versions of the same: {first.step} of {first.partition} and "
                     f"{second.step} of {second.partition}")  # fmt: skip
    specs = [_told(one.spec, f"the spec of {one}", notes) for one in (first, second)]
    packages = [
        _told(lambda one=one: _environment(one), f"the packages of {one}", notes) for one in (first, second)
    ]
    if None in specs and first.spec_hash != second.spec_hash:
        notes.append(f"the specs differ in what concerns {second.step}, but not both were stored whole")
    return Differences(
        before=first,
        after=second,
        files=tuple(changes(_hashes(first), _hashes(second), deep=False)),
        parameters=tuple(changes(first.parameters, second.parameters)),
        metrics=tuple(_metric_changes(first.metrics, second.metrics)),
        paired=_paired(first, second, specs[1] or specs[0], notes),
        labels=tuple(changes(first.labels, second.labels)),
        columns=tuple(changes(_types(first), _types(second), deep=False)),
        rows=_row_changes(first, second, key, specs, examples),
        inputs=tuple(changes(_inputs(store, first), _inputs(store, second), deep=False)),
        code=_code_changes(first, second),
        packages=tuple(changes(*packages, deep=False)) if None not in packages else (),
        spec=tuple(changes(*specs)) if None not in specs else (),
        notes=tuple(notes),
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any], *, deep: bool = True) -> list[Change]:
    """Return which values differ, by name; those of nested mappings by their dotted names if `deep`."""
    first, second = (dict(flat(one)) if deep else dict(one) for one in (before, after))
    found = []
    for name in dict.fromkeys((*first, *second)):
        if name not in first:
            found.append(Change(name, "added", None, second[name]))
        elif name not in second:
            found.append(Change(name, "removed", first[name], None))
        elif not same_value(first[name], second[name]):
            found.append(Change(name, "changed", first[name], second[name]))
    return found


def _metric_changes(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[MetricChange]:
    for name in dict.fromkeys((*before, *after)):
        base, _, end = name.rpartition(".")
        if end in ("low", "high") and (base in before or base in after):
            continue
        intervals = [_interval(one, name) for one in (before, after)]
        first, second = before.get(name), after.get(name)
        if not same_value(first, second) or not same_value([*(intervals[0] or ())], [*(intervals[1] or ())]):
            yield MetricChange(name, first, second, *intervals)


def _interval(metrics: Mapping[str, float], name: str) -> tuple[float, float] | None:
    ends = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])


def _paired(before: Thing, after: Thing, spec: Mapping[str, Any] | None, notes: list[str]) -> Paired | None:
    """Compare two models' test predictions, where they predicted the same rows."""
    if before.step != after.step or after.step not in (MODEL, AGGREGATE) or spec is None:
        return None
    if before.data_version == after.data_version:
        return None
    from mlassets.projects import ProjectSpec
    from mlassets.releasing.comparing import beside

    try:
        project = ProjectSpec.model_validate(spec)
        old, new = (_predictions(one) for one in (before, after))
        same = [
            name
            for name in (_SEGMENT, ROW_KEY, "actual")
            if name in old.column_names or name in new.column_names
        ]
        if not new.num_rows or not old.select(same).equals(new.select(same)):
            notes.append("the models were not tested on the same rows, so there is no paired interval")
            return None
        return _beside(beside(new, old, project), project, new.num_rows)
    except (MlassetsError, ValueError, KeyError) as error:
        notes.append(f"the two models cannot be compared on their rows: {error}")
        return None


def _beside(found: Any, spec: "ProjectSpec", rows: int) -> Paired | None:
    metric = spec.model.metric
    gain = found.gains.get(metric)
    return None if gain is None else Paired(metric, rows, gain, found.interval)


def _predictions(thing: Thing) -> "pa.Table":
    table = thing.table()
    keys = [name for name in (_SEGMENT, ROW_KEY) if name in table.column_names]
    return table.sort_by([(name, "ascending") for name in keys])


def _types(thing: Thing) -> dict[str, str]:
    return {one.name: str(one.type) for one in thing.schema or ()}


def _hashes(thing: Thing) -> dict[str, str]:
    return {one.name: one.hash for one in thing.components}


def _environment(thing: Thing) -> dict[str, Any]:
    environment = thing.environment()
    return {**{name: environment.get(name) for name in ("python", "platform")}, **environment["packages"]}


def _told(ask: Any, what: str, notes: list[str]) -> Any:
    try:
        return ask()
    except (MlassetsError, KeyError, ValueError) as error:
        notes.append(f"{what} cannot be read: {error}")
        return None


def _inputs(store: Store, thing: Thing) -> dict[str, Any]:
    found: dict[str, list[str]] = defaultdict(list)
    for one in thing.based_on:
        try:
            other = store.get(one)
        except MlassetsError:
            found["not in this catalog"].append(one)
        else:
            found[f"{other.step} of {other.partition.key}"].append(one)
    return {name: ids[0] if len(ids) == 1 else ids for name, ids in found.items()}


def _row_changes(
    before: Thing, after: Thing, key: Sequence[str], specs: Sequence[Mapping[str, Any] | None], examples: int
) -> RowChanges:
    if before.schema is None and after.schema is None:
        return RowChanges()
    if before.schema is None or after.schema is None:
        without = before if before.schema is None else after
        return RowChanges(note=f"{without} has no dataset")
    for name in key:
        for thing in (before, after):
            if name not in thing.schema.names:  # type: ignore[union-attr]  # both have one
                raise NotComparable(
                    f"the key column {name!r} is not in the dataset of {thing}; `--key` names columns of both: "
                    f"{', '.join(sorted({*before.schema.names} & {*after.schema.names})) or 'they have none in common'}"
                )
    if {(one.name, one.hash) for one in before.files.values()} == {
        (one.name, one.hash) for one in after.files.values()
    } and before.schema.equals(after.schema):
        return RowChanges(before=before.rows or 0, after=after.rows or 0)
    import duckdb

    chosen = tuple(key) or _key_of(before.schema, after.schema, specs)
    try:
        return compare_rows(before.scan(), after.scan(), chosen, examples=examples)
    except (duckdb.Error, MlassetsError) as error:
        return RowChanges(note=f"the rows cannot be compared: {' '.join(str(error).split())}")


def _key_of(
    before: "pa.Schema", after: "pa.Schema", specs: Sequence[Mapping[str, Any] | None]
) -> tuple[str, ...]:
    both = {*before.names} & {*after.names}
    if ROW_KEY in both:
        return (_SEGMENT, ROW_KEY) if _SEGMENT in both else (ROW_KEY,)
    named = [tuple(spec["key"]) for spec in specs if spec and spec.get("key")]
    return next((one for one in named if set(one) <= both), ())


def _code_changes(before: Thing, after: Thing) -> CodeChanges:
    first, second = (_code(one) for one in (before, after))
    values = tuple(changes(first, second, deep=False))
    of = "commit of mlassets" if first["commit of mlassets"] or second["commit of mlassets"] else "commit"
    old, new = first[of], second[of]
    if not old or not new or old == new:
        return CodeChanges(values)
    folder = Path(resources.__file__ or "").parent if of != "commit" else Path.cwd()
    span = f"{old[:12]}..{new[:12]}"
    if not all(re.fullmatch(r"[0-9a-f]{7,64}", one) for one in (old, new)):
        return CodeChanges(values, span, note="these are no commits")
    try:
        log = _git(folder, "log", "--format=%h %s", f"-{_COMMITS_SHOWN}", f"{old}..{new}")
        files = _git(folder, "diff", "--name-status", "--no-renames", old, new)
    except (OSError, subprocess.SubprocessError):
        return CodeChanges(values, span, note=f"the checkout at {folder} does not have both commits")
    return CodeChanges(values, span, tuple(log), tuple(" ".join(line.split("\t")) for line in files))


def _code(thing: Thing) -> dict[str, Any]:
    about = thing.provenance
    git, code = about.get("git") or {}, about.get("code") or {}
    return {
        "code version": thing.code_version,
        "commit of mlassets": code.get("commit"),
        "uncommitted changes of mlassets": code.get("diff") or code.get("dirty"),
        "commit": git.get("commit"),
        "uncommitted changes": git.get("diff") or git.get("dirty"),
    }


def _git(folder: Path, *arguments: str) -> list[str]:
    command = ["git", "--no-optional-locks", *arguments, "--"]
    done = subprocess.run(  # noqa: S603 - commits come out of manifests as whole arguments
        command, cwd=folder, capture_output=True, timeout=30, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout.decode(errors="replace").splitlines()


def _identity(thing: Thing) -> dict[str, Any]:
    return {
        "id": thing.id,
        "step": thing.step,
        "partition": thing.partition.key,
        "created_at": thing.created_at.isoformat(),
        "data_version": thing.data_version,
    }


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what is no number is written as a word."""
    if hasattr(value, "__dataclass_fields__"):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def shown(value: Any, length: int = 60) -> str:
    """Return a value for a person, on one line and without anything that a terminal would obey."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    text = "".join(one if one.isprintable() else "�" for one in " ".join(text.split()))
    return text if len(text) <= length else f"{text[: length - 1]}…"
