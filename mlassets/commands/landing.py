"""`mlassets land`, `sources`, `convert` and `receive`: files into a home, what came of them, and files into files."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mlassets.commands.shared import (
    FAILED,
    WRONG,
    HomeOption,
    JsonOption,
    err,
    home_of,
    out,
    print_json,
    reading_bars,
    stop,
)

app = typer.Typer()

_PANEL = "Files and sources"
_TEXTS = ("delimiter", "quote", "thousands", "decimal", "date_format", "encoding", "format", "records")
OptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        metavar="OPTION=VALUE",
        help="How the files are read, as a source's spec says it: header=false, tables=[a,b]. May be repeated.",
    ),
]
OnBadRowsOption = Annotated[
    str | None, typer.Option(help="`skip` takes the good rows of a partly bad file, `fail` refuses it.")
]


def _described(read: list[str] | None, on_bad_rows: str | None, **more: Any) -> Any:
    """Return the options of a command line as the spec of a source."""
    from pydantic import ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from mlassets.sources import SourceSpec

    given: dict[str, Any] = dict(more)
    for one in read or ():
        name, equals, text = one.partition("=")
        if not equals:
            stop(f"--read {one} has no value; write OPTION=VALUE, such as --read \"delimiter=';'\"", WRONG)
        if name in _TEXTS:
            # A shell has eaten the quotes, or has not; and a tab is hard to type.
            quoted = len(text) > 2 and text[0] == text[-1] and text[0] in "'\""
            given[name] = (text[1:-1] if quoted else text).replace("\\t", "\t")
            continue
        try:
            given[name] = YAML(typ="safe").load(text)
        except YAMLError:
            given[name] = text
    if on_bad_rows is not None:
        given["on_bad_rows"] = on_bad_rows
    try:
        return SourceSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "--read"
        stop(f"{place}: {first['msg'].removeprefix('Value error, ')}", WRONG)


def _shown(text: str) -> str:
    """Return text of others as it may be printed: neither markup nor what a terminal would obey."""
    from mlassets.ingestion.landing import visible

    return escape(visible(text))


@app.command(rich_help_panel=_PANEL)
def land(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|FOLDER|URL]...", help="What lands; nothing: what the source's spec fetches."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source; by default named after what is given.")
    ] = None,
    read: OptionsOption = None,
    on_bad_rows: OnBadRowsOption = None,
    database: Annotated[
        str | None,
        typer.Option(help="Land the rows of --query to this PostgreSQL: postgresql://user@host/name."),
    ] = None,
    query: Annotated[str | None, typer.Option(help="One SELECT.")] = None,
    every: Annotated[
        str | None,
        typer.Option(help="Fetch again as often, such as 6h, while the sensors run (a URL or a query)."),
    ] = None,
    no_take: Annotated[bool, typer.Option("--no-take", help="Land only; the next look takes it.")] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Land files, folders, addresses or a query as a source, and take them in at once."""
    from mlassets.land import land_given

    more: dict[str, Any] = {}
    names = list(given or [])
    if database or query:
        if names or not source:
            stop("a query needs --source, and no file beside it", WRONG)
        more["fetch"] = {"database": database, "query": query, "every": every}
    elif every is not None:
        if len(names) != 1 or "://" not in names[0] or not source:
            stop("--every needs one address and --source", WRONG)
        more["fetch"] = {"url": names.pop(), "every": every}
    described = _described(read, on_bad_rows, **more)
    where = home_of(home)
    with reading_bars(json_output) as progress:
        landing = land_given(
            where, names, source=source, described=described, take=not no_take, progress=progress
        )
    if json_output:
        print_json(
            {
                "landed": landing.sources,
                "specs": [str(path) for path in landing.specs],
                "notes": landing.notes,
                "taken": landing.taken,
            }
        )
    else:
        _print_landing(landing, no_take)
    raise typer.Exit(0 if landing.whole else FAILED)


def _print_landing(landing: Any, no_take: bool) -> None:
    for note in landing.notes:
        out.print(f"note: {_shown(note)}", highlight=False)
    for path in landing.specs:
        out.print(f"Wrote [bold]{_shown(str(path))}[/bold].", highlight=False)
    if no_take:
        for source, names in landing.sources.items():
            out.print(
                f"{source}: {len(names):,} files have landed; the next look takes them.", highlight=False
            )
    for one in landing.taken:
        rows = sum(each["rows"] for each in one["files"])
        if one["state"] != "done" and not one["files"]:
            err.print(
                f"[red]error:[/red] {one['source']}: {_shown(one['error'] or one['state'])}", highlight=False
            )
        else:
            tables = f" in {len(one['files']):,} tables" if len(one["files"]) > 1 else ""
            out.print(
                f"[bold]{one['source']}[/bold]: {rows:,} rows{tables} taken, {one['rows']:,} in all; "
                f"`mlassets sources {one['source']}` shows them.",
                highlight=False,
            )
            for each in one["files"][:10]:
                if each["found"]:
                    name = f"{each['name']}#{each['table']}" if each["table"] else each["name"]
                    out.print(f"  {_shown(name)}: {_shown(found_words(each['found']))}", highlight=False)
        for each in one["rejected"]:
            out.print(f"  [yellow]{_shown(each['name'])}[/yellow]: {_shown(each['reason'])}", highlight=False)
        for each in one["quarantined"]:
            err.print(
                f"[red]quarantined:[/red] {_shown(each['name'])}: {_shown(each['reason'])}. {_shown(each['fix'])}.",
                highlight=False,
            )


def found_words(found: Any) -> str:
    """Return what was found out about a file as a person reads it."""
    import json

    plain = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in found.items()
    }
    text = ", ".join(f"{name} {value}" for name, value in plain.items()).replace("\t", "tab")
    return text if len(text) <= 300 else f"{text[:299]}…"


@app.command(rich_help_panel=_PANEL)
def sources(
    name: Annotated[
        str | None, typer.Argument(help="Only this source, with its schema and its files.")
    ] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """All sources: files, tables, rows, how fresh they are, and their size before and after."""
    from mlassets.source_overviews import source_of, sources_of

    where = home_of(home)
    if name is not None:
        found = source_of(where, name)
        if json_output:
            print_json(found)
        else:
            _print_source(found)
        return
    rows, loaded = sources_of(where), where.load_sources()
    if json_output:
        print_json({"sources": rows, "errors": [str(error) for error in loaded.errors]})
    else:
        if rows:
            _print_sources(rows)
        elif not loaded.errors:
            out.print(
                "There is no source yet; `mlassets land FILE --source NAME` makes one.", highlight=False
            )
        for error in loaded.errors:
            err.print(f"[red]error:[/red] {_shown(str(error))}", highlight=False)
    raise typer.Exit(WRONG if loaded.errors else 0)


def _print_sources(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("source")
    for column in ("files", "tables", "rows", "landed", "stored"):
        table.add_column(column, justify="right")
    table.add_column("taken")
    table.add_column("state")
    for one in rows:
        state = [f"{one['quarantined']:,} in quarantine"] if one["quarantined"] else []
        state += [f"{one['rejected']:,} rejected"] if one["rejected"] else []
        state += ["stale"] if one["stale"] else []
        table.add_row(
            _shown(one["source"]),
            *(f"{one[column]:,}" for column in ("files", "tables", "rows")),
            _size(one["landed_bytes"]),
            _size(one["stored_bytes"]),
            f"{_age(one['age_seconds'])} ago" if one["version"] else "never",
            ", ".join(state) or ("" if one["version"] else "nothing was taken"),
        )
    out.print(table)


def _print_source(found: dict[str, Any]) -> None:
    out.print(f"[bold]{_shown(found['source'])}[/bold]  {_shown(found['description'])}", highlight=False)
    out.print(f"  files: {_shown(found['where'])}", highlight=False, soft_wrap=True)
    if found["spec"]:
        out.print(f"  spec: {_shown(found['spec'])}", highlight=False, soft_wrap=True)
    if found["projects"]:
        out.print(f"  read by: {', '.join(found['projects'])}", highlight=False)
    if found["version"]:
        out.print(
            f"  {found['rows']:,} rows of {found['columns']:,} columns in {found['tables']:,} tables of "
            f"{found['files']:,} files, taken {_age(found['age_seconds'])} ago; {_size(found['landed_bytes'])} landed, "
            f"{_size(found['stored_bytes'])} stored",
            highlight=False,
            soft_wrap=True,
        )
    for column, kind in found["schema"].items():
        out.print(f"    {_shown(column)}: {_shown(kind)}", highlight=False)
    for one in found["contents"]:
        name = f"{one['name']}#{one['table']}" if one["table"] else one["name"]
        words = found_words({"format": one["format"], **(one["found"] or {})})
        out.print(f"  {_shown(name)}: {one['rows']:,} rows; {_shown(words)}", highlight=False, soft_wrap=True)
    for one in found["notes"]:
        what = "rows rejected" if one["rejected"] else "quarantined"
        out.print(
            f"  [yellow]{what}[/yellow] {_shown(one['name'])}: {_shown(one['reason'])}. {_shown(one['fix'])}.",
            highlight=False,
            soft_wrap=True,
        )


def _size(size: int) -> str:
    from rich.filesize import decimal

    return decimal(size).replace("bytes", "B")


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} s"


@app.command(rich_help_panel=_PANEL)
def convert(
    given: Annotated[
        Path, typer.Argument(metavar="IN", exists=True, dir_okay=False, help="Any file that can land.")
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A .parquet, .csv, .tsv, .jsonl or .feather file, or a folder."),
    ],
    read: OptionsOption = None,
    on_bad_rows: OnBadRowsOption = None,
    formulas: Annotated[
        bool, typer.Option("--formulas", help="Write text that a spreadsheet would run as it is.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Convert a file of any format; no project or home is needed."""
    from mlassets.ingestion.converting import convert_file

    options = _described(read, on_bad_rows).options
    with reading_bars(json_output) as progress, tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
        done = convert_file(
            given, target, Path(folder), options, formulas=formulas, overwrite=overwrite, progress=progress
        )
    if json_output:
        print_json(done)
        return
    for note in done["notes"]:
        out.print(f"note: {_shown(note)}", highlight=False)
    for one in done["tables"]:
        rejected = f"; {one['rejected']:,} rejected, kept in {one['rejects']}" if one["rejected"] else ""
        size = f"{one['rows']:,} rows of {len(one['schema']):,} columns, {_size(one['bytes'])}"
        out.print(
            f"{_shown(one['path'])}: {size}{_shown(rejected)}",
            highlight=False,
            soft_wrap=True,
        )


@app.command(rich_help_panel=_PANEL)
def receive(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3020,
    new_sources: Annotated[
        bool, typer.Option("--new-sources", help="Also take files for sources that nobody has described.")
    ] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Take uploads over HTTP: `curl -T FILE -H "Authorization: Bearer $TOKEN" http://HOST:PORT/SOURCE/`."""
    from mlassets.receiving import receive as take_uploads

    def tell(address: str) -> None:
        if json_output:
            print_json({"address": address})
        else:
            out.print(f"Uploads to {address}/<source>/<name>; Ctrl-C ends it.", highlight=False)

    take_uploads(home_of(home), host, port, new_sources=new_sources, tell=tell)
