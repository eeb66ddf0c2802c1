"""`mlassets lineage`, `used`: where a Thing comes from, and what came of it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mlassets.commands.shared import HomeOption, JsonOption, home_of, out, print_json

app = typer.Typer()

ThingArgument = Annotated[
    str, typer.Argument(metavar="THING", help="An id or its beginning, a name, step:partition, or an address.")
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
    found = home_of(home).store.lineage(
        thing, upstream=both or upstream, downstream=both or downstream, depth=depth
    )
    if html is not None:
        from mlassets.pages.lineage import lineage_page

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(lineage_page(found), encoding="utf-8")
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
