"""`mlassets log`, `upload`, `get`, `copy` and `point`: what goes into the store by hand, and what comes out of it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mlassets.commands.shared import (
    WRONG,
    HomeOption,
    JsonOption,
    home_of,
    out,
    print_json,
    reading_bars,
    stop,
)

if TYPE_CHECKING:
    from resources.store import Store
    from resources.things import Thing

app = typer.Typer()

ThingArgument = Annotated[
    str,
    typer.Argument(metavar="THING", help="An id or its beginning, a name, step:partition, or an address."),
]
NameOption = Annotated[
    str | None, typer.Option(help="What to call it; logging under the same name makes the next version.")
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="A word to find it by. May be repeated."),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--parameter", metavar="NAME=VALUE", help="What was chosen. May be repeated."),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME=NUMBER", help="What was measured. May be repeated."),
]
BasedOnOption = Annotated[
    list[str] | None, typer.Option(metavar="THING", help="What it was made from. May be repeated.")
]


@app.command(rich_help_panel="Catalog")
def log(
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="Its dataset: Parquet, CSV, JSON lines, Excel, …"),
    ] = None,
    name: NameOption = None,
    label: LabelOption = None,
    parameter: ParameterOption = None,
    metric: MetricOption = None,
    artifact: Annotated[
        list[str] | None,
        typer.Option("--artifact", metavar="NAME=FILE", help="A file that belongs to it. May be repeated."),
    ] = None,
    based_on: BasedOnOption = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Log a table, files, figures and words as one Thing. Numbers, true, false and null are taken as such."""
    with tempfile.TemporaryDirectory(prefix="mlassets-log-") as folder:
        thing = _store(home).log(
            _as_parquet(file, Path(folder)) if file else None,
            name=name,
            labels=_values(label, "--label"),
            parameters=_values(parameter, "--parameter"),
            metrics=_values(metric, "--metric"),
            artifacts={key: Path(path) for key, path in _pairs(artifact, "--artifact")},
            based_on=based_on or (),
        )
    _told(thing, json_output)


@app.command(rich_help_panel="Catalog")
def upload(
    files: Annotated[list[Path], typer.Argument(help="Files, and folders with all that is below them.")],
    name: NameOption = None,
    label: LabelOption = None,
    parameter: ParameterOption = None,
    metric: MetricOption = None,
    as_dataset: Annotated[
        bool, typer.Option("--as-dataset", help="The .parquet files among them are together its dataset.")
    ] = False,
    based_on: BasedOnOption = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Store files, as they are, as one Thing."""
    thing = _store(home).upload(
        files,
        name=name,
        as_dataset=as_dataset,
        labels=_values(label, "--label"),
        parameters=_values(parameter, "--parameter"),
        metrics=_values(metric, "--metric"),
        based_on=based_on or (),
    )
    _told(thing, json_output)


@app.command(rich_help_panel="Catalog")
def get(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="THING[#COMPONENT]",
            help="An id or its beginning, a name, step:partition, or an address; one file of it after #.",
        ),
    ],
    to: Annotated[Path, typer.Option(help="The folder to write to; for one file also the file.")] = Path(),
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Download the files of a Thing, or one of them, each checked by its hash."""
    from resources.handles import download

    found, component = _component(home_of(home).store, thing)
    paths = download(found, to, component)
    if json_output:
        print_json({"id": found.id, "files": [str(path) for path in paths]})
        return
    for path in paths:
        out.print(escape(str(path)), highlight=False, soft_wrap=True)
    if not paths:
        out.print(f"{escape(str(found))} has no files.", highlight=False)


@app.command(rich_help_panel="Catalog")
def copy(
    thing: ThingArgument,
    to: Annotated[
        str, typer.Option(metavar="LAKE", help="A lake by its name in MLASSETS_LAKES, its folder, or s3://…")
    ],
    with_lineage: Annotated[
        bool, typer.Option("--with-lineage", help="All that it was made from, too.")
    ] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Copy a Thing to another lake, or from an address to this one. Interrupted, it goes on where it was."""
    with reading_bars(json_output) as progress:
        copied = home_of(home).store.copy(thing, to, with_lineage=with_lineage, progress=progress)
    if json_output:
        print_json(vars(copied))
        return
    out.print(
        f"{len(copied.things):,} Things are in {escape(copied.lake)}, {len(copied.new):,} of them new; "
        f"{copied.bytes:,} bytes were written.",
        highlight=False,
        soft_wrap=True,
    )
    for missing in copied.missing:
        out.print(f"  {missing} is in the lineage, and not in this store", highlight=False)
    out.print("`mlassets catalog sync` there adopts what is new.", highlight=False)


@app.command(rich_help_panel="Catalog")
def point(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="mlassets://<lake>/<id>")],
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Let a Thing of another lake be one of this catalog's, while its files stay where they are."""
    _told(home_of(home).store.point(address), json_output)


def _store(home: Path | None) -> "Store":
    from mlassets.announcing import open_store

    return open_store(home)


def _as_parquet(file: Path, folder: Path) -> Path:
    """Return a file as Parquet: itself, or what it is converted to."""
    if file.suffix == ".parquet":
        return file
    from mlassets.ingestion.formats import convert_one

    sink = folder / f"{file.stem}.parquet"
    convert_one(file, file.name, sink)
    return sink


def _pairs(given: Sequence[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = [(one, *one.partition("=")) for one in given or ()]
    for whole, key, equals, _ in pairs:
        if not key or not equals:
            stop(f"{option} {whole!r} is no NAME=VALUE", WRONG)
    return [(key, value) for _, key, _, value in pairs]


def _values(given: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Return values as `find` reads them, too: numbers, true, false, null, "quoted text", else text."""
    return {key: _value(text) for key, text in _pairs(given, option)}


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value


def _component(store: "Store", reference: str) -> tuple["Thing", str | None]:
    """Return the Thing that a reference names, and which of its files."""
    from resources.references import parse_address
    from resources.things import ADDRESS, UnknownThing

    if reference.startswith(ADDRESS):
        return store.get(reference), parse_address(reference)[2]
    try:
        return store.get(reference), None
    except UnknownThing:
        thing, hash_sign, component = reference.partition("#")
        if not hash_sign:
            raise
        return store.get(thing), component


def _told(thing: "Thing", json_output: bool) -> None:
    if json_output:
        shared = [one.name for one in thing.components if not one.path.startswith(f"{thing.folder}/")]
        print_json(
            {
                "id": thing.id,
                "name": thing.partition.get("name"),
                "address": thing.address,
                "size": thing.size,
                "rows": thing.rows,
                "files": [one.name for one in thing.components],
                "shared": shared,
            }
        )
        return
    rows = "" if thing.rows is None else f", {thing.rows:,} rows"
    out.print(
        f"[bold]{escape(thing.partition.key)}[/bold] is {thing.id}: {len(thing.components)} files, "
        f"{thing.size:,} bytes{rows}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(escape(thing.address), highlight=False, soft_wrap=True)
