"""`mlassets profile`: what the columns of a source or a file hold, and what may be expected of such data."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mlassets.commands.shared import HomeOption, JsonOption, err, home_of, out, print_json

if TYPE_CHECKING:
    from mlassets.quality.profiling import Profile
    from mlassets.quality.rows import Rows

app = typer.Typer()

_MOST_SHOWN = 200


@app.command(rich_help_panel="Data")
def profile(
    of: Annotated[
        str, typer.Argument(metavar="SOURCE|FILE", help="A source, or a file of any format that can land.")
    ],
    table: Annotated[str | None, typer.Option(help="Which table of a file that holds several.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures, too.", dir_okay=False)
    ] = None,
    propose: Annotated[
        bool, typer.Option("--propose", help="Print only what may be expected, as a spec has it.")
    ] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what each column holds on all rows, and propose what to expect of such data."""
    from mlassets.quality.profiling import profile as look
    from mlassets.quality.profiling import profile_page

    with _rows_of(of, home, table) as (name, rows):
        seen = look(rows)
    if html is not None:
        html.write_bytes(profile_page(seen, title=f"Profile of {name}"))
    if json_output:
        print_json({"of": name, **seen.as_dict()})
    elif propose:
        print(seen.as_yaml(), end="")
    else:
        _print(name, seen)
    if html is not None:
        err.print(f"The page is {escape(str(html))}.", highlight=False, soft_wrap=True)


@contextmanager
def _rows_of(of: str, home: Path | None, table: str | None) -> "Iterator[tuple[str, Rows]]":
    """Give the rows of a file, read as it would be if it landed, or those of a source's newest version."""
    from mlassets.quality.rows import Rows, rows_of

    path = Path(of)
    if not path.is_file():
        from mlassets.steps import SOURCES
        from resources.things import Partition

        yield of, rows_of(home_of(home).store.require(SOURCES, Partition.source(of)))
        return
    from mlassets.ingestion.errors import SeveralTables
    from mlassets.ingestion.formats import convert
    from mlassets.ingestion.options import ReadOptions

    with TemporaryDirectory(prefix="mlassets-") as folder:
        options = ReadOptions(tables=(table,)) if table else ReadOptions()
        tables = convert(path, path.name, Path(folder), options).tables
        if len(tables) > 1:
            raise SeveralTables(path.name, [one.name for one in tables])
        name = f"{path.name}, {tables[0].name}" if table else path.name
        yield name, Rows((tables[0].path,), names={tables[0].path: path.name})


def _print(name: str, seen: "Profile") -> None:
    identified = "; ".join(" with ".join(key) for key in seen.keys)
    words = f"{name}: {seen.rows:,} rows, {len(seen.columns):,} columns. "
    words += f"Identify a row: {identified}." if identified else "No few columns identify a row."
    out.print(escape(words), highlight=False, soft_wrap=True)
    table = Table("column", "type", "nulls", "distinct", "lowest", "highest", "form or most frequent")
    for one in seen.columns[:_MOST_SHOWN]:
        table.add_row(
            *map(
                escape,
                (
                    one.name[:60],
                    one.type[:40],
                    f"{one.nulls / seen.rows:.2%}" if one.nulls else "",
                    f"{'' if one.distinct_is_exact else '~'}{one.distinct:,}",
                    (one.low or "")[:24],
                    (one.high or "")[:24],
                    one.pattern or ", ".join(value[:20] for value, _ in one.top[:4]),
                ),
            )
        )
    out.print(table)
    if len(seen.columns) > _MOST_SHOWN:
        out.print(f"{len(seen.columns) - _MOST_SHOWN:,} more columns: see --json or --html.", highlight=False)
    if seen.expected:
        out.print("--propose prints what may be expected of such data; --html draws it.", highlight=False)
