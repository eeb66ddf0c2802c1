"""`mlassets lineage`, `used`, `trace`, `sql`: where things come from, what came of them, what is in them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mlassets.commands.shared import (
    FAILED,
    WRONG,
    HomeOption,
    JsonOption,
    err,
    home_of,
    out,
    print_json,
    stop,
)

app = typer.Typer()

ThingArgument = Annotated[
    str,
    typer.Argument(metavar="THING", help="An id or its beginning, a name, step:partition, or an address."),
]
DepthOption = Annotated[int | None, typer.Option(min=1, help="How many steps to go; by default all.")]


@app.command(rich_help_panel="Catalog")
def lineage(
    thing: ThingArgument,
    upstream: Annotated[bool, typer.Option("--upstream", help="Only what it was made from.")] = False,
    downstream: Annotated[bool, typer.Option("--downstream", help="Only what was made from it.")] = False,
    depth: DepthOption = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flow chart.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the graph as a page that opens offline.", dir_okay=False)
    ] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what a Thing was made from, and what was made from it, to any depth and across projects."""
    both = upstream == downstream
    where = home_of(home)
    found = where.store.lineage(thing, upstream=both or upstream, downstream=both or downstream, depth=depth)
    if html is not None:
        from mlassets.pages.lineage import lineage_page

        url = where.settings.things_url
        html.parent.mkdir(parents=True, exist_ok=True)
        page = lineage_page(found, (lambda one: f"{url}/{one}") if url else None)
        html.write_text(page, encoding="utf-8")
    if json_output:
        edges = [vars(one) for one in found.edges]
        print_json({"root": found.root, "nodes": [_row(one) for one in found.nodes], "edges": edges})
    elif mermaid:
        print(found.mermaid(), end="")
    elif html is not None:
        out.print(f"Wrote [bold]{escape(str(html))}[/bold].", soft_wrap=True)
    else:
        _print_nodes(found.nodes)


@app.command(rich_help_panel="Catalog")
def used(
    thing: ThingArgument, depth: DepthOption = None, home: HomeOption = None, json_output: JsonOption = False
) -> None:
    """Show who used a Thing: what was made from it, by whom, on which machine, when; in any project."""
    found = home_of(home).store.used_by(thing, depth)
    if json_output:
        print_json([_row(one) for one in found])
    elif found:
        _print_nodes(found)
    else:
        out.print("Nothing was made from it.")


def _row(node: Any) -> dict[str, Any]:
    return {**vars(node), "short_id": node.short_id}


def _print_nodes(nodes: Any) -> None:
    table = Table("", "step", "partition", "id", "when (UTC)", "by", "", box=None, pad_edge=False)
    for one in nodes:
        table.add_row(
            f"{one.depth:+d}" if one.depth else "0",
            escape(one.step or "not in this catalog"),
            escape(one.name or one.partition or ""),
            one.id if one.step is None else one.short_id,
            (one.created_at or "")[:16].replace("T", " "),
            escape("@".join(part for part in (one.user, one.host) if part)),
            "" if one.state in ("there", "missing") else f"[yellow]{one.state}[/yellow]",
        )
    out.print(table)


@app.command(rich_help_panel="Catalog")
def trace(
    project: Annotated[str, typer.Argument(help="The project whose release is traced.")],
    row: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUE", help="A column of the key and its value; also `segment`. Repeated."
        ),
    ],
    release: Annotated[
        str | None, typer.Option(metavar="THING", help="A release other than the champion.")
    ] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Follow one published prediction back to its model, its drawn row, and the landed files it came from."""
    from mlassets.tracing import trace as trace_row

    values = {}
    for one in row:
        name, found, value = one.partition("=")
        if not found or not name:
            stop(f"--row {one!r} is not of the form NAME=VALUE", WRONG)
        values[name] = value
    store = home_of(home).store
    traced = trace_row(store, project, values, store.get(release) if release else None)
    if json_output:
        print_json(traced.as_dict())
    else:
        _print_trace(traced.as_dict())
    raise typer.Exit(FAILED if traced.gaps else 0)


def _print_trace(found: dict[str, Any]) -> None:
    out.print(
        f"[bold]{escape(found['row_key'])}[/bold] of {escape(found['project'])}|{escape(found['segment'])}",
        highlight=False,
    )
    for one in found["predictions"]:
        out.print(f"  predicted   {escape(_values(one))}", highlight=False, soft_wrap=True)
    for step, thing_id in found["things"].items():
        out.print(f"  {step:<12}{thing_id}", highlight=False)
    for one in found["drawn"]:
        out.print(f"  drawn       {escape(_values(one))}", highlight=False, soft_wrap=True)
    for source in found["sources"]:
        columns = ", ".join(source["matched_on"])
        how = f"matched on {columns}" if columns else "the rows were not found again, so all are listed"
        said = f"{len(source['files']):,} of {source['of']:,} files; {how}"
        out.print(
            f"  {escape(source['name'])} ({source['thing_id']}): {escape(said)}",
            highlight=False,
            soft_wrap=True,
        )
        for file in source["files"]:
            rows = "" if file["matching"] is None else f"  {file['matching']:,} of"
            line = f"    {file['name']}  blake3 {file['hash']}{rows} {file['rows']:,} rows"
            out.print(escape(line), highlight=False, soft_wrap=True)
    for gap in found["gaps"]:
        err.print(f"[red]not followed:[/red] {escape(gap)}", highlight=False, soft_wrap=True)


def _values(row: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.items())


@app.command(rich_help_panel="Catalog")
def sql(
    query: Annotated[
        str | None, typer.Argument(help="One SELECT; without it, the tables are listed.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write the rows to this .parquet, .csv or .json file.", dir_okay=False)
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Read all versions, not the newest ones alone.")
    ] = False,
    version: Annotated[
        list[str] | None,
        typer.Option(metavar="THING", help="Read this version in place of the newest one. May be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows are shown.")] = 50,
    memory: Annotated[str, typer.Option(help="Limit of memory.")] = "1GB",
    seconds: Annotated[float, typer.Option(help="Limit of time.")] = 300.0,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Run one SELECT over the datasets of all Things and the catalog. It can only read."""
    from resources.views import tables

    store = home_of(home).store
    if every and version:
        stop("--all and --version cannot be used together; leave one out", WRONG)
    versions: str | list[str] = "all" if every else version or "latest"
    if query is None:
        _print_tables(tables(store), json_output)
    elif to is not None:
        count = store.sql_to(to, query, versions=versions, memory=memory, seconds=seconds)
        if json_output:
            print_json({"path": str(to), "rows": count})
        else:
            out.print(
                f"Wrote {count:,} rows to [bold]{escape(str(to))}[/bold].", soft_wrap=True, highlight=False
            )
    else:
        _print_rows(store.sql(query, versions=versions, memory=memory, seconds=seconds), limit, json_output)


def _print_tables(names: dict[str, str], json_output: bool) -> None:
    if json_output:
        print_json(names)
        return
    table = Table("table", "what it holds", box=None, pad_edge=False)
    for name, description in names.items():
        table.add_row(escape(name), escape(description))
    out.print(table)


def _print_rows(rows: Any, limit: int, json_output: bool) -> None:
    from resources.views import plain

    if json_output:
        print_json(plain(rows.to_pylist()))
        return
    table = Table(*(escape(name) for name in rows.column_names), box=None, pad_edge=False)
    for row in rows.slice(0, limit).to_pylist():
        table.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
    out.print(table)
    if rows.num_rows > limit:
        err.print(
            f"{limit:,} of {rows.num_rows:,} rows; `--limit` shows more, `--to` writes all.", highlight=False
        )
