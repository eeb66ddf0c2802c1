"""`mlassets diff`, `compare`, `reproduce`: what differs between versions, and whether a version can be made again."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mlassets.commands.shared import HomeOption, JsonOption, home_of, out, print_json

app = typer.Typer()

SHOWN = 40


@app.command(rich_help_panel="Catalog")
def diff(
    before: Annotated[
        str, typer.Argument(metavar="A", help="The first Thing: an id, a name, step:partition@n, …")
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="The second Thing.")],
    key: Annotated[
        str, typer.Option(help="Columns, separated by commas, that tell which row is which.")
    ] = "",
    examples: Annotated[int, typer.Option(min=0, help="How many rows of each kind are shown.")] = 5,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what differs between two Things: parameters, metrics, columns, rows, code, packages, spec."""
    from mlassets.differences import diff as find

    names = [name.strip() for name in key.split(",") if name.strip()]
    found = find(home_of(home).store, before, after, key=names, examples=examples)
    if json_output:
        print_json(found.as_dict())
    else:
        print_differences(found)


def print_differences(found: Any) -> None:
    """Print differences for a person."""
    out.print(
        f"A  {escape(str(found.before))}, {found.before.created_at:%Y-%m-%d %H:%M} UTC", highlight=False
    )
    out.print(f"B  {escape(str(found.after))}, {found.after.created_at:%Y-%m-%d %H:%M} UTC", highlight=False)
    same = (
        "hold the same bytes"
        if found.same_content
        else "differ in: " + ", ".join(one.name for one in found.files)
    )
    out.print(f"Their files {escape(same)}.", highlight=False)
    for title, changes in (
        ("Inputs", found.inputs),
        ("Spec", found.spec),
        ("Code", found.code.values),
        ("Packages", found.packages),
        ("Parameters", found.parameters),
        ("Labels", found.labels),
        ("Columns", found.columns),
    ):
        _print_changes(title, changes)
    _print_commits(found.code)
    _print_metrics(found.metrics)
    if found.paired:
        one = found.paired
        ends = f" (95 % interval {one.interval[0]:+.4g} to {one.interval[1]:+.4g})" if one.interval else ""
        out.print(
            f"On the same {one.rows:,} test rows, B is better by {one.gain:+.4g} {one.metric}{ends}.",
            highlight=False,
        )
    _print_rows(found.rows)
    for note in found.notes:
        out.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)


def _print_changes(title: str, changes: Sequence[Any]) -> None:
    from mlassets.differences import shown

    if not changes:
        return
    table = Table(title, "A", "B", box=None, pad_edge=False)
    for one in changes[:SHOWN]:
        before = "" if one.kind == "added" else shown(one.before)
        after = "" if one.kind == "removed" else shown(one.after)
        table.add_row(escape(shown(one.name)), escape(before), escape(after))
    out.print()
    out.print(table)
    if len(changes) > SHOWN:
        out.print(f"and {len(changes) - SHOWN:,} more; `--json` has all")


def _print_commits(code: Any) -> None:
    from mlassets.differences import shown

    if not code.range:
        return
    out.print(f"\nCode: git diff {escape(code.range)}", highlight=False)
    for line in (*code.commits[:SHOWN], *code.files[:SHOWN]):
        out.print(f"  {escape(shown(line, 200))}", highlight=False)
    if code.note:
        out.print(f"  {escape(code.note)}", highlight=False)


def _print_metrics(metrics: Sequence[Any]) -> None:
    from mlassets.differences import shown

    if not metrics:
        return

    def told(value: float | None, ends: tuple[float, float] | None) -> str:
        text = "" if value is None else f"{value:.4g}"
        return f"{text} ({ends[0]:.4g} to {ends[1]:.4g})" if ends else text

    table = Table("Metrics", "A", "B", "change", box=None, pad_edge=False)
    # What was measured with an interval is what matters; there may be hundreds of others.
    ordered = sorted(metrics, key=lambda one: one.before_interval is None and one.after_interval is None)
    for one in ordered[:SHOWN]:
        change = "" if one.change is None else f"{one.change:+.4g}"
        table.add_row(
            escape(shown(one.name)),
            told(one.before, one.before_interval),
            told(one.after, one.after_interval),
            change,
        )
    out.print()
    out.print(table)
    if len(metrics) > SHOWN:
        out.print(f"and {len(metrics) - SHOWN:,} more; `--json` has all")


def _print_rows(rows: Any) -> None:
    from mlassets.differences import shown

    if not (rows.before or rows.after or rows.note):
        return
    by = f" by {', '.join(rows.key)}" if rows.key else ""
    out.print(
        f"\nRows{by}: {rows.before:,} and {rows.after:,}; {rows.added:,} added, {rows.removed:,} removed, "
        f"{rows.changed:,} changed",
        highlight=False,
    )
    if rows.note:
        out.print(f"  {escape(rows.note)}", highlight=False)
    for name, count in sorted(rows.columns.items(), key=lambda item: -item[1])[:SHOWN]:
        out.print(f"  {escape(shown(name))} differs in {count:,}", highlight=False)
    for kind, examples in rows.examples.items():
        for one in examples:
            out.print(f"  {kind}: {escape(shown(one, 200))}", highlight=False)
