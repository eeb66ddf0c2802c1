"""What a query means, without any database: the definition that `find` is tested against."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from resources.store import Store
from resources.things import Thing

MISSING = object()
TIMES = ("created_at", "retired_at", "removed_at", "provenance.started_at", "provenance.ended_at")
ATTRIBUTES = {"labels": "labels", "parameters": "parameters", "metrics": "metrics"}
COMPARED = {
    "$gt": lambda one, other: one > other,
    "$gte": lambda one, other: one >= other,
    "$lt": lambda one, other: one < other,
    "$lte": lambda one, other: one <= other,
}


def clean(text: str) -> str:
    """No database can hold what is replaced here."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{before}{name}."))
        else:
            found[clean(f"{before}{name}")] = value
    return found


def typed(value: Any) -> tuple[str, Any]:
    """The type of a value, and the value as it compares with others of that type."""
    if value is None:
        return "null", None
    if isinstance(value, bool):
        return "truth", value
    if isinstance(value, float) and math.isnan(value):
        return "nan", None
    if isinstance(value, (int, float)):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            try:
                value = float(value)
            except OverflowError:
                value = math.inf if value > 0 else -math.inf
        return "number", value
    if isinstance(value, str):
        return "text", clean(value)
    if isinstance(value, datetime):
        return "time", value.astimezone(UTC)
    return "other", value


class Oracle:
    """All Things of a store, read from their manifests."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.things = store.find(retired=True).things()
        self.verdicts = {
            thing.id: {one.claim: one.status for one in store.verdicts(thing.id)} for thing in self.things
        }

    def values(self, thing: Thing, field: str) -> list[Any]:
        """The values that a field has: none, one, or the names and hashes of all files."""
        root, _, name = field.partition(".")
        if root in ATTRIBUTES and name:
            found = flat(getattr(thing, root)).get(clean(name), MISSING)
            return [] if found is MISSING else [found]
        if root == "verdicts":
            status = self.verdicts[thing.id].get(name)
            return [] if status is None else [status]
        if field in ("file", "hash"):
            return [getattr(one, "name" if field == "file" else "hash") for one in thing.components]
        if root == "provenance":
            about = {**thing.provenance, "argv": " ".join(thing.provenance["argv"])}
            found = flat(about).get(name, MISSING)
            if field in TIMES and isinstance(found, str):
                found = datetime.fromisoformat(found)
            return [] if found is MISSING else [found]
        columns = {
            **dict(thing.partition.dimensions),
            **{
                one: thing.manifest.get(one)
                for one in ("id", "step", "data_version", "code_version", "spec_hash", "run_id")
            },
            "partition": thing.partition.key,
            "user": thing.provenance["user"],
            "host": thing.provenance["host"],
            "created_at": thing.created_at,
            "retired_at": thing.retired_at,
            "size": sum(one.size for one in thing.components),
            "rows": thing.rows,
        }
        return [columns.get(field)]

    def condition(self, thing: Thing, field: str, operator: str, operand: Any) -> bool:
        if operator == "$ne":
            return not self.condition(thing, field, "$eq", operand)
        if operator == "$nin":
            return not self.condition(thing, field, "$in", operand)
        if operator == "$not":
            return not all(self.condition(thing, field, *one) for one in operand.items())
        found = [typed(value) for value in self.values(thing, field)]
        if operator == "$exists":
            is_column = "." not in field and field not in ("file", "hash")
            there = found != [("null", None)] if is_column else bool(found)
            return there == operand
        if operator == "$in":
            return any(self.condition(thing, field, "$eq", one) for one in operand)
        if operator == "$regex":
            return any(kind == "text" and re.search(operand, value) for kind, value in found)
        wanted = typed(operand)
        if field in TIMES and wanted[0] == "text":
            wanted = typed(datetime.fromisoformat(operand))
        if operator == "$eq":
            return wanted in found
        ordered = wanted[0] in ("number", "text", "truth", "time")
        return any(
            kind == wanted[0] and ordered and COMPARED[operator](value, wanted[1]) for kind, value in found
        )

    def holds(self, thing: Thing, query: Mapping[str, Any]) -> bool:
        return all(self._one(thing, key, value) for key, value in query.items())

    def _one(self, thing: Thing, key: str, value: Any) -> bool:
        if key == "$and":
            return all(self.holds(thing, one) for one in value)
        if key == "$or":
            return any(self.holds(thing, one) for one in value)
        if key == "$not":
            return not self.holds(thing, value)
        if isinstance(value, Mapping):
            return all(self.condition(thing, key, *one) for one in value.items())
        return self.condition(thing, key, "$eq", value)

    def find(self, query: Mapping[str, Any], *, retired: bool = False) -> list[str]:
        """The ids of what matches, newest first."""
        there = [one for one in self.things if retired or one.retired_at is None]
        there.sort(key=lambda one: (one.created_at, one.id), reverse=True)
        return [one.id for one in there if self.holds(one, query)]

    def sorted_by(self, field: str, *, descending: bool, retired: bool = False) -> list[str]:
        """All ids by one field; of equal ones the newest first, those without a value last."""
        there = [one for one in self.things if retired or one.retired_at is None]
        there.sort(key=lambda one: one.id, reverse=True)
        ranks = ("number", "truth", "time", "text")

        def key(thing: Thing) -> tuple[int, Any] | None:
            kind, value = typed(next(iter(self.values(thing, field)), None))
            if kind not in ranks:
                return None
            return ranks.index(kind), float(value) if kind == "number" else value

        with_value = [one for one in there if key(one) is not None]
        with_value.sort(key=key, reverse=descending)  # type: ignore[arg-type]
        # Numbers come before texts in either direction.
        with_value.sort(key=lambda one: key(one)[0])  # type: ignore[index]
        return [one.id for one in [*with_value, *(one for one in there if key(one) is None)]]
