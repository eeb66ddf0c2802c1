"""`mlassets diff`, `compare`, `reproduce`: what differs between versions, and whether a version can be made again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mlassets.commands.shared import FAILED, HomeOption, JsonOption, err, home_of, out, print_json

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


@app.command(rich_help_panel="Catalog")
def compare(
    project: Annotated[str, typer.Argument(help="The project.")],
    step: Annotated[str, typer.Option(help="The step whose versions are compared.")] = "model",
    segment: Annotated[str | None, typer.Option(help="Only this segment.")] = None,
    metric: Annotated[str, typer.Option(help="The metric that matters most, such as test.roc_auc.")] = "",
    html: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write tables and pictures as a page that opens offline."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write every parameter and metric of every version.")
    ] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Compare all versions of a project: what was chosen, what came of it, as a table and as pictures."""
    from mlassets import versions

    found = versions.versions_of(home_of(home).store, project, step, segment=segment, metric=metric)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_bytes(versions.page(found))
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        found.to_pandas().to_csv(csv, index=False)
    if json_output:
        print_json(versions.as_records(found))
        return
    header, rows = versions.cells_of(found, SHOWN, metrics=1, parameters=max(1, (out.width - 64) // 18))
    table = Table(*(escape(one) for one in header), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(one) for one in row))
    out.print(table)
    if found.table.num_rows > SHOWN:
        out.print(f"and {found.table.num_rows - SHOWN:,} older; `--csv` writes all")
    for written in (html, csv):
        if written is not None:
            out.print(f"Wrote [bold]{escape(str(written))}[/bold].", soft_wrap=True)


@app.command(rich_help_panel="Catalog")
def reproduce(
    thing: Annotated[
        str, typer.Argument(metavar="THING", help="An id, a name, step:partition@n, an address.")
    ],
    environment: Annotated[
        bool,
        typer.Option("--environment", help="Install the recorded packages into a virtual environment first."),
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(file_okay=False, help="A new folder for all that it is made in; kept then.")
    ] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Make a Thing again from its recorded inputs, spec, seed and code, and say whether it comes out the same."""
    from mlassets.reproducing import reproduce as make_again

    where = home_of(home)
    with err.status("reproducing") as shown:
        made = make_again(
            where.store,
            where.settings,
            thing,
            environment=environment,
            keep=keep,
            progress=lambda doing: shown.update(escape(doing)),
        )
    if json_output:
        print_json(made.as_dict())
    else:
        print_reproduced(made)
    raise typer.Exit(0 if made.same else FAILED)


def print_reproduced(made: Any) -> None:
    """Print what came of making a Thing again."""
    out.print(f"{escape(str(made.thing))}", highlight=False)
    out.print(f"made again in {made.seconds:.1f} s; {escape(made.code)}", highlight=False, soft_wrap=True)
    if made.same:
        out.print("[green]The same, byte for byte[/green]: files, parameters, metrics and labels.")
    elif made.same_bytes:
        out.print("[yellow]The same files, byte for byte, but other values beside them.[/yellow]")
    else:
        out.print("[red]Not the same.[/red]")
    if made.reasons:
        out.print("Known to differ from when it was made:" if made.same else "What may be the cause:")
    for reason in made.reasons[:SHOWN]:
        out.print(f"  - {escape(reason)}", highlight=False, soft_wrap=True)
    if len(made.reasons) > SHOWN:
        out.print(f"  and {len(made.reasons) - SHOWN:,} more; `--json` has all")
    if not made.same:
        if not made.reasons:
            out.print(
                "Nothing is known to differ from when it was made: what the step does is not decided by its inputs, "
                "its spec and its seed alone."
            )
        out.print("\nA is what was recorded, B what came out now.")
        print_differences(made.differences)
    if made.kept:
        out.print(f"All of it is in {escape(str(made.kept))}.", highlight=False)


def print_differences(found: Any) -> None:
    """Print differences for a person."""
    out.print(
        f"A  {escape(str(found.before))}, {found.before.created_at:%Y-%m-%d %H:%M} UTC", highlight=False
    )
    out.print(
        f"B  {escape(str(found.after))}, {found.after.created_at:%Y-%m-%d %H:%M} UTC",
        highlight=False,
        soft_wrap=True,
    )
    same = (
        "hold the same bytes"
        if found.same_content
        else "differ in: " + ", ".join(one.name for one in found.files)
    )
    out.print(f"Their files {escape(same)}.", highlight=False, soft_wrap=True)
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
