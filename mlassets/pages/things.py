"""The list of Things: searched in the language of `mlassets find`, sorted, a page at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlencode

from mlassets.pages.rendering import render, shown
from mlassets.pages.thing import verdict_counts
from mlassets.steps import SOURCES, STEPS
from mlassets.summaries import counted
from resources.catalog import flat
from resources.filters import BadQuery
from resources.finding import Found, unknown_names
from resources.references import UPLOADS
from resources.store import Store
from resources.things import Thing, pack

A_PAGE = 50
LABELS_SHOWN = 6
CELL = 120
NEWEST_FIRST = "-created_at"
_FARTHEST = 1_000_000_000
_SORTABLE = {
    "step": "Step",
    "partition": "Partition or name",
    "created_at": "Made (UTC)",
    "user": "By",
    "rows": "Rows",
    "size": "Size",
}
EXAMPLES = (
    ("step=model metrics.test.roc_auc>0.7", "models above a limit"),
    ("labels.ticket=AB-123 since=7d", "what carries a label, of the last seven days"),
    ('user=ana file~"\\.csv$"', "what ana made, with a file whose name ends so"),
    ("project in(late-flights, churn) not step=model", "of two projects, but no models"),
    ('labels."my key"="two words" or parameters.seed?', "quoted names, and whether there is such a field"),
)


@dataclass(frozen=True)
class Asked:
    """What is asked of the list, as it stands in the address of the page.

    Attributes:
        query: What to search for, in the language of `mlassets find`.
        step: Only this step.
        sort: A field, with `-` in front for the largest first.
        page: From 1.
        columns: Further fields to show, separated by blanks or commas.
        retired: Whether retired Things are listed, too.
    """

    query: str = ""
    step: str = ""
    sort: str = NEWEST_FIRST
    page: int = 1
    columns: str = ""
    retired: bool = False

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Self:
        """Read it from the part of an address behind the question mark; whatever makes no sense is left out."""
        page = given.get("page", "")
        return cls(
            query=given.get("q", ""),
            step=given.get("step", ""),
            sort=given.get("sort") or NEWEST_FIRST,
            page=min(_FARTHEST, max(1, int(page))) if page.isdecimal() and len(page) < 12 else 1,
            columns=given.get("columns", ""),
            retired=given.get("retired", "") == "yes",
        )

    @property
    def fields(self) -> list[str]:
        """The further fields to show."""
        return list(dict.fromkeys(self.columns.replace(",", " ").split()))

    @property
    def whole_query(self) -> str:
        """The search with the chosen step."""
        if not self.step:
            return self.query
        quoted = self.step.replace("\\", "\\\\").replace('"', '\\"')
        return f'step="{quoted}" ({self.query})' if self.query.strip() else f'step="{quoted}"'

    def link(self, suffix: str = "", **changes: Any) -> str:
        """Return the address of the same list with some of it changed."""
        other = replace(self, **changes)
        given = {
            "q": other.query,
            "step": other.step,
            "sort": other.sort if other.sort != NEWEST_FIRST else "",
            "page": str(other.page) if other.page > 1 else "",
            "columns": other.columns,
            "retired": "yes" if other.retired else "",
        }
        text = urlencode({name: value for name, value in given.items() if value})
        return f"/things{suffix}{'?' if text else ''}{text}"

    def sorted_by(self, field: str) -> str:
        """Return the address of the list sorted by a field: first the largest, and turned round if it is so already."""
        return self.link(sort=field if self.sort == f"-{field}" else f"-{field}", page=1)


def _looked_up(store: Store, asked: Asked) -> Found:
    """Return what is found for a page.

    Raises:
        BadQuery: If the search or the order makes no sense.
    """
    offset = (asked.page - 1) * A_PAGE
    return store.find(asked.whole_query, sort=asked.sort, limit=A_PAGE, offset=offset, retired=asked.retired)


def things_page(store: Store, asked: Asked) -> tuple[str, int]:
    """Return the page with what is asked for and its HTTP status; a search that makes no sense is told so above it."""
    things: list[Thing] = []
    count, wrong = 0, ""
    unknown: list[str] = []
    try:
        found = _looked_up(store, asked)
        things, count = found.things(), found.count()
        unknown = [] if count else unknown_names(store.catalog, found.query)
    except BadQuery as error:
        wrong = str(error)
    verdicts = verdict_counts(store, [one.id for one in things])
    pages = max(1, -(-count // A_PAGE))
    page = render(
        "things.html",
        title="Things",
        asked=asked,
        wrong=wrong,
        unknown=unknown,
        steps=[SOURCES, *STEPS, UPLOADS],
        heads=[
            {
                "name": name,
                "title": title,
                "href": asked.sorted_by(name),
                "order": "ascending"
                if asked.sort == name
                else "descending"
                if asked.sort == f"-{name}"
                else "",
            }
            for name, title in (*_SORTABLE.items(), *((field, field) for field in asked.fields))
        ],
        numbers=("rows", "size"),
        rows=[_row(one, asked, verdicts.get(one.id)) for one in things],
        count=count,
        first=(asked.page - 1) * A_PAGE + 1,
        pages=pages,
        examples=[(query, about, Asked(query=query).link()) for query, about in EXAMPLES],
    )
    return page, 400 if wrong else 200


def as_json(store: Store, asked: Asked) -> dict[str, Any]:
    """Return what the list says as plain values: the JSON twin of its page."""
    found = _looked_up(store, asked)
    things, count = found.things(), found.count()
    verdicts = verdict_counts(store, [one.id for one in things])
    return {
        "query": asked.whole_query,
        "sort": asked.sort,
        "page": asked.page,
        "count": count,
        "things": [
            {
                "id": one.id,
                "step": one.step,
                "partition": one.partition.key,
                "created_at": one.manifest["created_at"],
                "user": one.manifest["provenance"].get("user"),
                "rows": one.rows,
                "size": one.size,
                "retired_at": one.retired_at.isoformat() if one.retired_at else None,
                "labels": one.manifest["labels"],
                "verdicts": verdicts.get(one.id),
                "columns": {field: pack(_field(one, field), field) for field in asked.fields},
            }
            for one in things
        ],
    }


def _row(thing: Thing, asked: Asked, verdicts: Mapping[str, int] | None) -> dict[str, Any]:
    labels = [(name, _short(value)) for name, value in flat(thing.labels)]
    return {
        "thing": thing,
        "size": thing.size,
        "user": thing.manifest["provenance"].get("user") or "",
        "labels": labels[:LABELS_SHOWN],
        "more_labels": max(0, len(labels) - LABELS_SHOWN),
        "verdicts": verdicts or counted([]),
        "fields": [
            _short(value) if (value := _field(thing, field)) is not None else "" for field in asked.fields
        ],
    }


def _short(value: object) -> str:
    text = shown(value)
    return text if len(text) <= CELL else f"{text[:CELL]}…"


def _field(thing: Thing, field: str) -> Any:
    """Return the value of a field as searches name it; None if the Thing has none of that name."""
    kind, _, name = field.partition(".")
    values: dict[str, Any] = {
        "labels": thing.labels,
        "parameters": thing.parameters,
        "metrics": thing.metrics,
        "provenance": thing.manifest["provenance"],
    }
    if name and kind in values:
        return dict(flat(values[kind])).get(name)
    plain = {**dict(thing.partition.dimensions), **thing.manifest, "size": thing.size, "rows": thing.rows}
    found = plain.get(field)
    return found if isinstance(found, str | int | float | None) else None
