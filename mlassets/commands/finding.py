"""`mlassets find`, `browse` and `show`: which Things there are, and all that is known of one."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mlassets.commands.shared import HomeOption, JsonOption, err, home_of, out, print_json

if TYPE_CHECKING:
    import pyarrow as pa

    from resources.finding import Found
    from resources.store import Store
    from resources.things import Thing

app = typer.Typer()

_SHOWN = 50
_IN_TABLE = ("id", "step", "partition", "created_at")
_LONGEST_CELL = 200
_LONGEST_VALUE = 1000

SortOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD", help="What to sort by; with - before it, largest first. May be repeated."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(min=0, help=f"How many to print at most: by default {_SHOWN} in a table, else all."),
]
OffsetOption = Annotated[int, typer.Option(min=0, help="How many to pass over.")]
ColumnsOption = Annotated[
    str | None, typer.Option(metavar="FIELD,FIELD", help="What to print, such as id,metrics.roc_auc,labels.*")
]
CsvOption = Annotated[Path | None, typer.Option("--csv", help="Write a CSV file.", dir_okay=False)]
CountOption = Annotated[bool, typer.Option("--count", help="Print only how many there are.")]
RetiredOption = Annotated[bool, typer.Option("--retired", help="Retired ones too.")]


@app.command(rich_help_panel="Catalog")
def find(
    query: Annotated[
        list[str],
        typer.Argument(
            help="Conditions, such as 'labels.ticket=AB-123 metrics.roc_auc>0.7 step=model since=7d'."
        ),
    ],
    sort: SortOption = None,
    limit: LimitOption = None,
    offset: OffsetOption = 0,
    count: CountOption = False,
    columns: ColumnsOption = None,
    retired: RetiredOption = False,
    csv: CsvOption = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Find Things by anything that they say: columns, labels, parameters, metrics, provenance, verdicts, files.

    Conditions stand side by side, or with `and`, `or`, `not` and parentheses between them. They compare with
    `=`, `!=`, `>`, `>=`, `<`, `<=`, `~` (a regular expression), `in(a,b)`; `labels.ticket?` asks whether it is there.
    """
    text = " ".join(query)
    _tell(text, home_of(home).store, sort, limit, offset, count, columns, retired, csv, json_output)


@app.command(rich_help_panel="Catalog")
def browse(
    sort: SortOption = None,
    limit: LimitOption = None,
    offset: OffsetOption = 0,
    count: CountOption = False,
    columns: ColumnsOption = None,
    retired: RetiredOption = False,
    csv: CsvOption = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """List all Things, newest first."""
    _tell("", home_of(home).store, sort, limit, offset, count, columns, retired, csv, json_output)


@app.command(rich_help_panel="Catalog")
def show(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="THING", help="An id or its beginning, a name, step:partition, or an address."
        ),
    ],
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show all that is known about one Thing."""
    from mlassets.pages.thing import as_json

    store = home_of(home).store
    one = store.get(thing)
    told = as_json(store, one)
    if json_output:
        print_json(told)
    else:
        _print_thing(store, one, told)


def _tell(
    query: str,
    store: "Store",
    sort: Sequence[str] | None,
    limit: int | None,
    offset: int,
    count: bool,
    columns: str | None,
    retired: bool,
    csv: Path | None,
    json_output: bool,
) -> None:
    from resources.finding import unknown_names

    printed = not (json_output or csv)
    found = store.find(
        query,
        sort=sort or "-created_at",
        limit=_SHOWN if limit is None and printed else limit,
        offset=offset,
        retired=retired,
    )
    for told in unknown_names(store.catalog, found.query):
        err.print(f"[yellow]note:[/yellow] {escape(told)}", highlight=False)
    if count:
        print_json({"count": found.count()}) if json_output else print(found.count())
        return
    chosen = [one.strip() for one in columns.split(",") if one.strip()] if columns else None
    if csv is not None:
        table = found.to_arrow(chosen)
        write_csv(table, csv)
        out.print(f"Wrote {table.num_rows:,} Things to [bold]{escape(str(csv))}[/bold].", soft_wrap=True)
    elif json_output:
        print_json(rows_of(found.to_arrow(chosen)))
    else:
        _print_found(found, found.to_arrow(chosen or _asked_for(found)))


def _asked_for(found: "Found") -> list[str]:
    """Return the columns of a table: the most important, and what was asked for by name."""
    from resources.filters import conditions

    fields = [one.field for one in conditions(found.query)] + [one.field for one in found.orders]
    named = [str(one) for one in fields if one.kind in ("label", "parameter", "metric")]
    own = [one.name for one in fields if one.kind == "column"]
    return list(dict.fromkeys([*_IN_TABLE, *own, *named]))


def rows_of(table: "pa.Table") -> list[dict[str, Any]]:
    """Return the rows of a frame as JSON can say them, without what a Thing does not have.

    What is no number for JSON is a text: `nan`, `inf`, `-inf`.
    """
    return [
        {name: _plain(value) for name, value in row.items() if value is not None} for row in table.to_pylist()
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write_csv(table: "pa.Table", path: Path) -> None:
    """Write a frame as CSV; times are ISO 8601."""
    import pyarrow as pa
    from pyarrow import csv

    texts = [
        pa.array([None if one is None else one.isoformat() for one in column.to_pylist()], pa.string())
        if pa.types.is_timestamp(column.type)
        else column
        for column in table.columns
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    csv.write_csv(pa.table(texts, names=table.column_names), path)


def _print_found(found: "Found", table: "pa.Table") -> None:
    if table.num_rows == 0:
        out.print("Nothing was found.")
        return
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in table.column_names:
        shown.add_column(escape(name), overflow="fold", no_wrap=name == "id")
    for row in table.to_pylist():
        shown.add_row(*(_cell(name, value) for name, value in row.items()))
    out.print(shown, highlight=False)
    total = found.count()
    if total > table.num_rows:
        err.print(f"{table.num_rows:,} of {total:,}; see more with --limit and --offset.", highlight=False)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "id":
        return str(value)[-12:-4]
    return escape(_short(value, _LONGEST_CELL))


def _short(value: Any, longest: int) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def _print_thing(store: "Store", thing: "Thing", told: Mapping[str, Any]) -> None:
    def line(name: str, value: Any) -> None:
        if value not in (None, "", {}, []):
            shown = escape(_short(value, _LONGEST_VALUE))
            out.print(f"[dim]{escape(name):14}[/dim] {shown}", highlight=False, soft_wrap=True)

    def section(title: str, values: Mapping[str, Any]) -> None:
        if values:
            out.print(f"\n[bold]{title}[/bold]")
            for name, value in values.items():
                line(name, value)

    out.print(
        f"[bold]{escape(thing.step)}[/bold] of [bold]{escape(thing.partition.key)}[/bold]", highlight=False
    )
    for name in ("id", "address", "created_at", "run_id", "code_version", "spec_hash", "data_version"):
        line(name.replace("_", " "), told.get(name))
    line("rows", thing.rows)
    line("size", f"{told['size']:,} bytes")
    for name in ("retired", "removed"):
        if told.get(name):
            out.print(
                f"[yellow]{name}[/yellow]        {escape(_short(told[name], _LONGEST_VALUE))}",
                soft_wrap=True,
            )
    section("Parameters", thing.parameters)
    section("Metrics", thing.metrics)
    section("Labels", thing.labels)
    section("Files", {one.name: f"{one.size:,} bytes, {one.hash[:16]}" for one in thing.components})
    if told["schema"]:
        section("Columns", {one["name"]: one["type"] for one in told["schema"]})
    section("Verdicts", {one.claim: f"{one.status}: {one.message}" for one in store.verdicts(thing.id)})
    section("Based on", {one[-12:-4]: _called(store, one) for one in thing.based_on})
    section("Provenance", thing.provenance)
    section("Versions", {one[-12:-4]: one for one in told["versions"]})


def _called(store: "Store", thing_id: str) -> str:
    from resources.things import UnknownThing

    try:
        return str(store.get(thing_id))
    except UnknownThing:
        return f"{thing_id}, not in this catalog"
