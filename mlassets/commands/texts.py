"""`mlassets texts`: what the texts of a source or a file are about, and which of them stand out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from mlassets.commands.shared import HomeOption, JsonOption, err, home_of, out, print_json

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from mlassets.quality.text_pages import TextsSeen

app = typer.Typer()

_SAMPLE = 20_000


@app.command(rich_help_panel="Data")
def texts(
    of: Annotated[
        str,
        typer.Argument(metavar="SOURCE|FILE|THING", help="A source, any file that can land, or a Thing."),
    ],
    column: Annotated[
        str | None, typer.Option(help="The column of texts; by default the only one that holds texts.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Find the texts most like this one.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures, too.", dir_okay=False)
    ] = None,
    embedding: Annotated[
        Literal["lsa", "wordllama"],
        typer.Option(
            help="How texts become vectors: by their own words, or by the packaged model of English."
        ),
    ] = "lsa",
    sample: Annotated[int, typer.Option(min=1, help="Rows to look at, drawn by a seed.")] = _SAMPLE,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and the clusters.")] = 0,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what texts are about: their properties, clusters and copies, and the nearest to a text."""
    from mlassets.quality.text_pages import look_at

    with _rows_of(of, home, column) as (name, rows):
        name_of_column, seen = look_at(rows, column, sample=sample, embedding=embedding, seed=seed)
    if html is not None:
        html.write_bytes(seen.page(f"Texts of {name}", [("Column", name_of_column)], like))
    if json_output:
        print_json({"of": name, "column": name_of_column, **seen.as_dict(like)})
    else:
        _print(name, name_of_column, seen, like)
    if html is not None:
        err.print(f"The page is {escape(str(html))}.", highlight=False, soft_wrap=True)


@contextmanager
def _rows_of(of: str, home: Path | None, column: str | None) -> "Iterator[tuple[str, ds.Dataset]]":
    """Give the rows of a file, read as it would be if it landed, of a source's newest version, or of a Thing."""
    path = Path(of)
    if not path.is_file():
        from mlassets.steps import SOURCES
        from resources.things import Partition

        store = home_of(home).store
        yield of, (store.latest(SOURCES, Partition.source(of)) or store.get(of)).scan()
        return
    import pyarrow.dataset as ds

    from mlassets.ingestion.formats import convert
    from mlassets.quality.text_pages import NoTexts

    with TemporaryDirectory(prefix="mlassets-") as folder:
        tables = convert(path, path.name, Path(folder)).tables
        having = [one for one in tables if column is None or column in one.schema.names]
        if not having:
            names = {name for one in tables for name in one.schema.names}
            raise NoTexts(f"{path.name} has no column `{column}`; it has {', '.join(sorted(names)[:20])}")
        if len({tuple(one.schema.names) for one in having}) > 1:
            listed = "; ".join(f"{one.name} ({', '.join(one.schema.names[:8])})" for one in having[:5])
            raise NoTexts(
                f"{path.name} holds several tables: {listed}. Name a column that one of them has with --column"
            )
        yield path.name, ds.dataset([str(one.path) for one in having], format="parquet")


def _print(name: str, column: str, seen: "TextsSeen", like: str | None) -> None:
    from mlassets.quality.text_pages import excerpt

    told = seen.as_dict(like)
    if like is not None:
        table = Table("likeness", "text", title="Nearest texts", title_justify="left")
        for one in told["nearest"]:
            table.add_row(f"{one['likeness']:.3f}", escape(excerpt(one["text"])))
        out.print(table)
        return
    looked = f"{told['texts']:,} texts" + (
        f", a seeded sample of {told['rows']:,} rows" if told["rows"] > told["texts"] else ""
    )
    out.print(
        f"{escape(name)}, column {escape(column)}: {looked}. Embedding: {told['embedding']}.",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("property", "5 %", "median", "95 %")
    for what, spread in told["properties"].items():
        table.add_row(what.replace("_", " "), *(f"{one:.4g}" for one in spread.values()))
    out.print(table)
    scripts = ", ".join(f"{what} {share:.1%}" for what, share in told["scripts"].items())
    out.print(f"Scripts: {scripts or 'none'}.", highlight=False, soft_wrap=True)
    table = Table("texts", "words that tell them", "the most typical")
    for one in told["clusters"]:
        words = ", ".join(excerpt(word, 30) for word in one["words"])
        table.add_row(f"{one['texts']:,}", escape(words), escape(one["example"]))
    out.print(table)
    out.print(f"{told['copies']['texts']:,} texts are nearly the same as an earlier one.", highlight=False)
    for one in told["copies"]["groups"][:3]:
        out.print(f"  {one['texts']:,} times: {escape(one['example'])}", highlight=False, soft_wrap=True)
