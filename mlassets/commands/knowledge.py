"""`mlassets kb`: knowledge bases of documents and tables, and what is found in them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mlassets.commands.shared import (
    WRONG,
    HomeOption,
    JsonOption,
    out,
    print_json,
    reading_bars,
    stop,
)

if TYPE_CHECKING:
    from resources.store import Store

app = typer.Typer()
kb = typer.Typer(
    help="Knowledge bases: the texts of documents and tables, and where each is from.", no_args_is_help=True
)
app.add_typer(kb, name="kb", rich_help_panel="Sources")

_MOST_TOLD = 20

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the knowledge base.")]


class ExportForm(StrEnum):
    """What a knowledge base is exported as."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    GRAPH = "graph"


@kb.command()
def build(
    name: NameArgument,
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]…", help="Folders of documents and tables; by default those of last time."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="A source whose newest version belongs to it. May be repeated."),
    ] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Bring a knowledge base up to date; only files that changed are read, and those that cannot be are noted."""
    from mlassets.ingestion.knowledge import build as build_base
    from mlassets.ingestion.knowledge_index import following

    with reading_bars(json_output) as progress:
        built = build_base(_store(home), name, folders or (), source or (), progress=progress)
        with following(built.thing, _index(home, name)):
            pass
    told = {
        "id": built.thing.id,
        "new": built.is_new,
        "files": built.files,
        "texts": built.texts,
        "read": built.read,
        "removed": built.removed,
        "refused": [vars(one) for one in built.refused],
        "ignored": dict(built.ignored),
    }
    if json_output:
        print_json(told)
        return
    version = f"version {built.thing.id}" if built.is_new else "nothing has changed"
    out.print(
        f"[bold]{escape(name)}[/bold] holds {built.texts:,} texts of {built.files:,} files: {version}; "
        f"{built.read:,} files were read, {built.removed:,} are no more.",
        highlight=False,
        soft_wrap=True,
    )
    for one in built.refused[:_MOST_TOLD]:
        out.print(f"  [yellow]not read:[/yellow] {escape(one.reason)}", highlight=False, soft_wrap=True)
    if len(built.refused) > _MOST_TOLD:
        out.print(f"  and {len(built.refused) - _MOST_TOLD:,} more were not read; see them all with --json")
    if built.ignored:
        out.print(f"  {len(built.ignored):,} hidden or temporary files were passed over.", highlight=False)


@kb.command()
def search(
    name: NameArgument,
    query: Annotated[
        list[str],
        typer.Argument(help='Words, all of which are there; "words side by side"; beginnings*; -not-this.'),
    ],
    limit: Annotated[int, typer.Option(min=1, help="How many to print at most.")] = 10,
    under: Annotated[
        str, typer.Option(help="Only documents whose path begins so, such as a subfolder.")
    ] = "",
    any_word: Annotated[bool, typer.Option("--any", help="One of the words suffices.")] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Find texts in a knowledge base, the best first. Options go before a word that starts with -, after `--`."""
    from mlassets.ingestion.knowledge import knowledge_base
    from mlassets.ingestion.knowledge_index import search as search_index

    thing = knowledge_base(_store(home), name)
    hits = search_index(
        thing, _index(home, name), " ".join(query), limit=limit, under=under, any_word=any_word
    )
    if json_output:
        print_json([{**vars(one), "place": one.place} for one in hits])
        return
    if not hits:
        out.print(
            "Nothing was found." if any_word else "Nothing was found; with --any one of the words suffices."
        )
    for one in hits:
        heading = f"  [dim]{escape(one.heading)}[/dim]" if one.heading else ""
        out.print(f"[bold]{escape(one.place)}[/bold]{heading}", highlight=False, soft_wrap=True)
        out.print(f"  {escape(' '.join(one.snippet.split()))}", highlight=False, soft_wrap=True)


@kb.command(name="list")
def list_bases(home: HomeOption = None, json_output: JsonOption = False) -> None:
    """List the knowledge bases."""
    from mlassets.ingestion.knowledge import knowledge_bases

    found = knowledge_bases(_store(home))
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "id": thing.id,
            "built": thing.created_at.isoformat(),
            **{one: int(thing.metrics[one]) for one in ("files", "texts", "refused", "bytes")},
            "folders": thing.parameters["folders"],
            "sources": thing.parameters["sources"],
        }
        for name, thing in found.items()
    ]
    if json_output:
        print_json(rows)
        return
    if not rows:
        out.print("There is no knowledge base yet: `mlassets kb build NAME FOLDER` makes one.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("name", "built", "files", "texts", "not read", "of"):
        table.add_column(column, justify="right" if column in ("files", "texts", "not read") else "left")
    for row in rows:
        made_of = ", ".join([*row["folders"], *(f"source {one}" for one in row["sources"])])
        table.add_row(
            row["name"], row["built"][:16].replace("T", " "), f"{row['files']:,}", f"{row['texts']:,}",
            f"{row['refused']:,}", escape(made_of),
        )  # fmt: skip
    out.print(table, highlight=False)


@kb.command()
def export(
    name: NameArgument,
    to: Annotated[Path, typer.Argument(metavar="TO", help="The file to write; for a graph the folder.")],
    as_form: Annotated[
        ExportForm | None,
        typer.Option(
            "--as", help="By default as the name of the file says; a graph is nodes.csv and edges.csv."
        ),
    ] = None,
    alike: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="From which likeness on documents are joined in a graph; 1 for none."
        ),
    ] = 0.5,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Write a knowledge base as one Parquet or JSON-lines file, or as a graph."""
    from mlassets.ingestion.knowledge import knowledge_base
    from mlassets.ingestion.knowledge_export import export_graph, export_texts

    by_suffix = {".parquet": ExportForm.PARQUET, ".jsonl": ExportForm.JSONL, ".ndjson": ExportForm.JSONL}
    form = as_form or by_suffix.get(to.suffix.lower())
    if form is None:
        stop(f"{to} does not say what to export; name a .parquet or .jsonl file, or say --as graph", WRONG)
    thing = knowledge_base(_store(home), name)
    if form is ExportForm.GRAPH:
        told = export_graph(thing, to, alike=None if alike == 1 else alike)
    else:
        told = {"texts": export_texts(thing, to, "parquet" if form is ExportForm.PARQUET else "jsonl")}
    if json_output:
        print_json({"to": str(to), **told})
        return
    if form is ExportForm.GRAPH:
        for kind in ("nodes", "edges"):
            counts = ", ".join(f"{count:,} {one}" for one, count in told[kind].items())
            out.print(f"{kind}.csv: {counts or 'none'}", highlight=False)
        for note in told["notes"]:
            out.print(f"  {note}", highlight=False)
    else:
        out.print(f"Wrote {told['texts']:,} texts.", highlight=False)
    out.print(escape(str(to)), highlight=False, soft_wrap=True)


def _store(home: Path | None) -> "Store":
    # Not through the home of assets: a search would wait for Dagster to be loaded.
    from mlassets.announcing import open_store

    return open_store(home)


def _index(home: Path | None, name: str) -> Path:
    from mlassets.ingestion.knowledge import thing_name
    from resources.settings import Settings

    thing_name(name)
    settings = Settings.load(home=home) if home else Settings.load()
    return settings.home / "knowledge" / f"{name}.db"
