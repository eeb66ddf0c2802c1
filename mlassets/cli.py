"""The `mlassets` command.

Exit codes: 0, all is well; 1, a step failed; 2, the command or a project's spec is wrong; 3, a verdict blocks;
130 and 143, Ctrl-C or SIGTERM ended it.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from mlassets.commands import browsing as browsing_commands
from mlassets.commands import comparing, finding
from mlassets.commands import knowledge as knowledge_commands
from mlassets.commands import landing as landing_commands
from mlassets.commands import lineage as lineage_commands
from mlassets.commands import profiling as profiling_commands
from mlassets.commands import quarantine as quarantine_commands
from mlassets.commands import retaining as retaining_commands
from mlassets.commands import storing as storing_commands
from mlassets.commands import texts as text_commands
from mlassets.commands.shared import (
    BLOCKED,
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
from mlassets.stopping import Stopped, stop_if_asked, stopping_at_signals
from resources.errors import MlassetsError

SECONDS_OF_HASHING = 10.0


class _Commands(TyperGroup):
    """All commands: an error of ours is told in its own words, and SIGINT and SIGTERM end each of them cleanly."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with stopping_at_signals():
                return super().invoke(ctx)
        except Stopped as stopped:
            err.print(
                f"[yellow]stopped by {stopped.number.name}:[/yellow] what was under way is given up; all that was "
                "committed before is whole. The same command goes on from there.",
                highlight=False,
            )
            raise typer.Exit(stopped.exit_code) from None
        except MlassetsError as error:
            stop(str(error), WRONG)


app = typer.Typer(
    cls=_Commands,
    help=__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
catalog = typer.Typer(help="The index of all Things.", no_args_is_help=True)
app.add_typer(catalog, name="catalog")
app.add_typer(browsing_commands.app)
app.add_typer(knowledge_commands.app)
app.add_typer(lineage_commands.app)
app.add_typer(landing_commands.app)
app.add_typer(quarantine_commands.app, name="quarantine", rich_help_panel="Files and sources")
app.add_typer(profiling_commands.app)
app.add_typer(retaining_commands.app)
app.add_typer(storing_commands.app)
app.add_typer(comparing.app)
app.add_typer(finding.app)
app.add_typer(text_commands.app)

ProjectArgument = Annotated[str | None, typer.Argument(help="Only this project.")]
SegmentOption = Annotated[str | None, typer.Option(help="Only this segment.")]


def _chosen(loaded: Any, project: str | None) -> list[Any]:
    from mlassets.projects import named_project

    return [named_project(loaded, project)] if project else list(loaded.specs.values())


@app.command()
def demo(
    home: Annotated[
        Path, typer.Option(help="Where to lay out the demo's home; it must be new or empty.")
    ] = Path(".mlassets"),
    json_output: JsonOption = False,
) -> None:
    """Run the bundled late-flights project on three months of data, then land the fourth."""
    from mlassets.demo import run_demo

    summary = run_demo(home, Console(stderr=True) if json_output else out)
    if json_output:
        print_json(summary)
    raise typer.Exit(summary["exit_code"])


@app.command()
def new(
    project: Annotated[str, typer.Argument(help="Name of the project: lower-case letters, digits, hyphens.")],
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A file with the project's rows.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    segment: Annotated[
        str | None, typer.Option(help="The column whose values get a model of their own.")
    ] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Infer a commented project spec from a file and land the file: `mlassets run PROJECT` then runs it."""
    from mlassets.starting import start_project

    started = start_project(home_of(home).settings, project, data, target, segment)
    if json_output:
        print_json({"spec": str(started.spec), "landed": started.landed, "notes": list(started.notes)})
        return
    out.print(f"Wrote [bold]{escape(str(started.spec))}[/bold]; read it, it says what was inferred and why.")
    for note in started.notes:
        out.print(f"  - {escape(note)}", highlight=False)
    out.print(f"Next: [bold]mlassets run {project}{_home_words(home)}[/bold]", highlight=False)


@app.command()
def run(
    project: ProjectArgument = None,
    step: Annotated[str | None, typer.Option(help="Run this step, due or not.")] = None,
    segment: SegmentOption = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Take what has landed and run whatever is due, in this process; no daemon is needed."""
    from mlassets.runs import Runner, instance_of
    from mlassets.steps import STEPS

    if step is not None and step not in STEPS:
        stop(f"{step!r} is no step; the steps are {', '.join(STEPS)}", WRONG)
    console = Console(stderr=True) if json_output else out
    where = home_of(home)
    with instance_of(where.settings) as instance, showing_progress(console) as (on_start, on_end):
        runner = Runner(where, instance, on_start, on_end)
        loaded = where.projects()
        specs = _chosen(loaded, project)
        if not project and loaded.errors:
            raise loaded.errors[0]
        read = {name for spec in specs for name in spec.sources}
        for error in where.load_sources().errors:
            # Its files would be left lying, and nobody told.
            if not project or error.file.stem in read:
                raise error
        outcomes = runner.take_landed_files()
        if step is not None:
            outcomes += runner.run_step(step, specs, segment)
        else:
            if segment is not None:
                runner.require_segment(specs, segment)
            outcomes += runner.run_due(
                [spec.project for spec in specs], None if segment is None else [segment]
            )
        left = [
            one
            for one in runner.decisions([spec.project for spec in specs])
            if one.state in ("blocked", "waiting", "current")
        ]
    if json_output:
        from mlassets.summaries import described

        print_json({"runs": [vars(one) for one in outcomes], "left": [described(one) for one in left]})
    elif not outcomes:
        out.print("Nothing was due.")
        for one in left:
            out.print(f"  {one.step} of {escape(one.partition.key)}: {escape(one.reason)}", highlight=False)
    states = {one.state for one in outcomes}
    raise typer.Exit(
        FAILED
        if "failed" in states
        else BLOCKED
        if "blocked" in states or any(one.state == "blocked" for one in left)
        else 0
    )


@app.command()
def status(project: ProjectArgument = None, home: HomeOption = None, json_output: JsonOption = False) -> None:
    """How the projects stand: releases, what waits on whom, what blocks; of one project, everything."""
    from mlassets.steps import look_at
    from mlassets.summaries import overviews_of, status_of

    where = home_of(home)
    loaded = where.projects()
    chosen = _chosen(loaded, project)
    seen = look_at(where.store)
    rows = overviews_of(chosen, where.store, seen=seen)
    details = [
        status_of(spec, where.store, seen=seen)
        for spec, row in zip(chosen, rows, strict=True)
        if (json_output or len(chosen) == 1) and (project or row["state"] != "unreadable")
    ]
    if json_output:
        whole = {row["project"]: row for row in details}
        print_json(
            {
                "projects": [whole.get(row["project"], row) for row in rows],
                "errors": [str(error) for error in loaded.errors],
            }
        )
    else:
        if rows:
            print_overview(out, rows)
        for row in details:
            print_status(out, row)
        for error in loaded.errors:
            err.print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
        if not rows and not loaded.errors:
            out.print("There is no project yet; `mlassets new` starts one.")
    raise typer.Exit(WRONG if loaded.errors else 0)


@app.command()
def why(
    project: Annotated[str, typer.Argument(help="The project.")],
    segment: Annotated[str | None, typer.Argument(help="Only this segment.")] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """What would run for a project now, what would not, and what says so. Runs nothing and writes nothing."""
    from mlassets.ingestion.taking import plan_landing
    from mlassets.projects import named_project
    from mlassets.summaries import why_of

    where = home_of(home)
    spec = named_project(where.projects(), project)
    sources = {name: one for name, one in where.sources().items() if name in spec.sources}
    landing = plan_landing(
        None, sources, where.settings, where.store, quiet_seconds=0, seconds=SECONDS_OF_HASHING
    )
    found = why_of(spec, where.store, segment, landed=landing.requests)
    if json_output:
        print_json({**found, "notes": list(landing.notes)})
    else:
        print_why(out, found)
        for note in landing.notes:
            out.print(f"note: {escape(note)}", highlight=False)


@app.command()
def verdicts(
    project: Annotated[str, typer.Argument(help="The project.")],
    every: Annotated[
        bool, typer.Option("--all", help="Also list what passed and what does not apply.")
    ] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """The verdicts on the newest version of every step of a project."""
    from mlassets.projects import named_project
    from mlassets.summaries import verdicts_of

    where = home_of(home)
    rows = verdicts_of(named_project(where.projects(), project), where.store)
    if json_output:
        print_json(rows)
    else:
        print_verdicts(out, rows, every)
    raise typer.Exit(BLOCKED if any(row["blocks"] for row in rows) else 0)


@app.command()
def report(
    thing_id: Annotated[str, typer.Argument(help="Id of a Thing, as `status` and Dagster show it.")],
    open_it: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Where the report of verdicts on a Thing is."""
    from mlassets.summaries import counted

    store = home_of(home).store
    thing = store.get(thing_id)
    path = store.report_path(thing.id)
    found = store.verdicts(thing.id)
    if path is None:
        stop(f"{thing} was not judged yet, so it has no report", FAILED)
    if json_output:
        print_json({"thing": thing.id, "report": path, "verdicts": counted(found)})
        return
    out.print(path, highlight=False, soft_wrap=True)
    if open_it:
        page = store.report(thing.id)
        if "://" in path and page is not None:
            # A browser cannot open what lies on S3.
            copy = Path(tempfile.mkdtemp(prefix="mlassets-report-"), f"{thing.id}.html")
            copy.write_bytes(page)
            path = str(copy)
        typer.launch(path)


@app.command()
def review(
    project: Annotated[str, typer.Argument(help="The project whose newest version is decided on.")],
    decision: Annotated[str, typer.Argument(help="`approve` or `reject`.")],
    comment: Annotated[str, typer.Option(help="Why.")],
    reviewer: Annotated[
        str | None, typer.Option(help="Who decides; by default the user at the keyboard.")
    ] = None,
    send_back_to: Annotated[str, typer.Option(help="The step that a rejection sends the work back to.")] = "",
    segment: Annotated[
        list[str] | None, typer.Option(help="Send back only this segment; may be given several times.")
    ] = None,
    version: Annotated[
        str,
        typer.Option(
            help="Id of the aggregate or review that you looked at; refused if there is a newer one."
        ),
    ] = "",
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Decide on a project's newest version; an approval publishes it."""
    from mlassets.by_hand import decide_on

    console = Console(stderr=True) if json_output else out
    with showing_progress(console) as (on_start, on_end):
        decided = decide_on(
            home_of(home),
            project,
            decision,
            comment=comment,
            reviewer=reviewer,
            send_back_to=send_back_to,
            segments=segment or (),
            version=version,
            on_start=on_start,
            on_end=on_end,
        )
    if json_output:
        print_json(
            {
                **vars(decided.outcome),
                "decision": vars(decided.claim),
                "review": decided.review,
                "release": decided.release,
            }
        )
    raise typer.Exit({"failed": FAILED, "blocked": BLOCKED}.get(decided.outcome.state, 0))


@app.command()
def release(
    project: Annotated[str, typer.Argument(help="The project.")],
    action: Annotated[
        str, typer.Argument(help="`history`, `rollback` or `promote` (the challenger).")
    ] = "history",
    to: Annotated[
        str,
        typer.Option(help="Roll back to this release; by default to the champion before the present one."),
    ] = "",
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    by: Annotated[str | None, typer.Option(help="Who does it; by default the user at the keyboard.")] = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """The releases of a project: its champion, its challenger, its history; and going back to an earlier one."""
    from mlassets import by_hand
    from mlassets.projects import named_project
    from mlassets.releasing.aliases import history_of

    if action not in ("history", "rollback", "promote"):
        stop(f"{action!r} is no action; write `history`, `rollback` or `promote`", WRONG)
    if to and action != "rollback":
        stop(
            "--to says which release to roll back to; write `mlassets release PROJECT rollback --to ID`",
            WRONG,
        )
    where = home_of(home)
    spec = named_project(where.projects(), project)
    if action == "rollback":
        by_hand.roll_back(where, spec.project, to, comment=comment, by=by)
    elif action == "promote":
        by_hand.promote(where, spec.project, comment=comment, by=by)
    rows = history_of(where.store, spec.project)
    if json_output:
        print_json({"project": spec.project, "releases": rows})
    else:
        print_releases(out, spec.project, rows)


@app.command()
def alerts(
    test: Annotated[bool, typer.Option("--test", help="Send a test alert through every channel.")] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """What needs a person now: failed runs, blocking verdicts, waiting reviews, stale sources."""
    from mlassets.alerting.channels import channels_of

    where = home_of(home)
    channels = channels_of(where.settings.alerts)
    if test:
        _test_channels(channels, where.settings, json_output)
    from mlassets.automation.alerts import everything_open
    from mlassets.runs import instance_of

    with instance_of(where.settings) as instance:
        found = everything_open(where, instance)
    if json_output:
        print_json(
            {
                "alerts": [one.as_dict() for one in found.alerts],
                "channels": [one.name for one in channels],
                "errors": list(found.troubles),
            }
        )
    else:
        print_alerts(out, found.alerts, [one.name for one in channels])
        for trouble in found.troubles:
            err.print(f"[red]error:[/red] {escape(trouble)}", highlight=False)
    raise typer.Exit(WRONG if found.troubles else 0)


def _test_channels(channels: list[Any], settings: Any, json_output: bool) -> NoReturn:
    """Send a test alert through every channel, one after the other, and end."""
    from mlassets.alerting.channels import NotSent, sample_alert

    if not channels:
        stop("no alert channel is set: MLASSETS_ALERTS is a JSON list of URLs", WRONG)
    results = []
    for channel in channels:
        try:
            channel.send([sample_alert(settings.dagster_url or "")])
            results.append({"channel": channel.name, "error": ""})
        except NotSent as error:
            results.append({"channel": channel.name, "error": str(error)})
    if json_output:
        print_json(results)
    for one in results if not json_output else ():
        word = (
            f"[red]failed[/red] {escape(one['error'])}"
            if one["error"]
            else f"[green]sent[/green] to {one['channel']}"
        )
        out.print(word, highlight=False, soft_wrap=True)
    raise typer.Exit(FAILED if any(one["error"] for one in results) else 0)


@app.command()
def ui(
    home: HomeOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port of Dagster's UI; reports are served on the next one.")
    ] = 3000,
) -> None:
    """Open Dagster on this home, and serve its reports beside it. Ends with Ctrl-C."""
    from mlassets.ui import serve

    raise typer.Exit(serve(home_of(home).settings, host, port, lambda text: out.print(text, highlight=False)))


@app.command()
def doctor(home: HomeOption = None, json_output: JsonOption = False) -> None:
    """Examine everything a deployment rests on, and say what is wrong and how to mend it."""
    from mlassets.doctor import examine

    with (Console(stderr=True) if json_output else out).status("") as shown:
        findings = list(examine(home_of(home).settings, lambda area: shown.update(f"looking at: {area}")))
    if json_output:
        print_json({"findings": [vars(one) for one in findings]})
    else:
        print_findings(out, findings)
    raise typer.Exit(FAILED if any(one.state == "wrong" for one in findings) else 0)


@catalog.command()
def sync(home: HomeOption = None, json_output: JsonOption = False) -> None:
    """Adopt Things and verdicts that are in the lake but not in the catalog, as a crash may leave them."""
    _report_sync(home_of(home), "sync", json_output)


@catalog.command()
def rebuild(home: HomeOption = None, json_output: JsonOption = False) -> None:
    """Make the catalog say what the lake says, from the lake alone; others may go on reading and committing."""
    _report_sync(home_of(home), "rebuild", json_output)


def _report_sync(where: Any, what: str, json_output: bool) -> None:
    with reading_bars(json_output) as progress:
        found = getattr(where.store, what)(progress)
    if json_output:
        print_json({**vars(found), "damaged": list(found.damaged)})
    else:
        out.print(f"{found.things:,} Things and {found.check_runs:,} check runs.")
        for line in found.damaged:
            err.print(f"[red]damaged:[/red] {escape(line)}", highlight=False)
    raise typer.Exit(FAILED if found.damaged else 0)


@catalog.command()
def verify(
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, though a verify was interrupted half-way.")
    ] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Read everything in the lake again and name what is damaged. Interrupted, it goes on where it was."""
    with reading_bars(json_output) as progress:
        where = home_of(home)
        found = where.store.verify_all(where.settings.home / "verify.jsonl", fresh=fresh, progress=progress)
    if json_output:
        print_json({**vars(found), "damaged": [vars(one) for one in found.damaged]})
    else:
        out.print(
            f"{found.things:,} Things and {found.check_runs:,} check runs; {found.files:,} files of "
            f"{found.bytes:,} bytes; {len(found.damaged):,} damaged."
        )
        for one in found.damaged:
            err.print(f"[red]damaged:[/red] {escape(str(one))}", highlight=False)
    raise typer.Exit(FAILED if found.damaged else 0)


@catalog.command()
def migrate(home: HomeOption = None, json_output: JsonOption = False) -> None:
    """Bring the tables of an older version's catalog up to date; what is in them stays."""
    from resources.catalog import HEAD, Catalog

    settings = home_of(home).settings
    before = Catalog.migrate(settings.catalog, settings.patience)
    if json_output:
        print_json({"before": before, "now": HEAD})
    elif before == HEAD:
        out.print(f"The catalog has revision {HEAD} already.", highlight=False)
    else:
        out.print(f"The catalog went from revision {before or 'none'} to {HEAD}.", highlight=False)


@catalog.command()
def sweep(
    older_than: Annotated[
        float, typer.Option(min=0, help="Hours for which nothing was written to what may go.")
    ] = 24,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")
    ] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Delete what commits that crashed have left in the lake; what is committed is never touched."""
    from datetime import timedelta

    store = home_of(home).store
    limit = timedelta(hours=older_than)
    found = store.garbage(limit)
    deleted = [] if dry_run else store.sweep(limit)
    size = sum(one.size for one in found)
    if json_output:
        print_json({"files": [one.path for one in found], "bytes": size, "deleted": deleted})
    else:
        word = "would go" if dry_run else "deleted"
        out.print(f"{len(found):,} files of {size:,} bytes {word}.", highlight=False)
        for one in found:
            out.print(f"  {escape(one.path)}", highlight=False, soft_wrap=True)


@contextmanager
def showing_progress(
    console: Console,
) -> Iterator[tuple[Callable[[tuple[str, ...], str, str], None], Callable[[Any], None]]]:
    """Show what is running now with a spinner and the seconds it takes, and each outcome on a line of its own."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        current: list[Any] = []

        def on_start(steps: tuple[str, ...], partition: str, reason: str) -> None:
            stop_if_asked()
            text = f"{' + '.join(steps)} of {escape(partition)} ({escape(reason)})"
            current.append(progress.add_task(text, total=None))

        def on_end(outcome: Any) -> None:
            progress.remove_task(current.pop())
            if outcome.state != "done":
                stop_if_asked()
            print_outcome(console, outcome)

        yield on_start, on_end


def print_outcome(console: Console, outcome: Any) -> None:
    """Print one run: what it was, why it ran, how long it took and how it ended."""
    word = {
        "done": "[green]done[/green]",
        "blocked": "[yellow]blocked[/yellow]",
        "failed": "[red]failed[/red]",
    }
    console.print(
        f"{word[outcome.state]} {' + '.join(outcome.steps)} of [bold]{escape(outcome.partition)}[/bold] "
        f"in {outcome.seconds:.1f} s, because: {escape(outcome.reason)}",
        highlight=False,
    )
    if outcome.error:
        console.print(f"  {escape(outcome.error)}", highlight=False)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(row: dict[str, Any]) -> str:
    if row["low"] is None:
        return _figure(row["value"])
    return f"{row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f})"


def _counts(counts: dict[str, int]) -> str:
    text = f"{counts['passed']} passed"
    if counts["warning"]:
        text += f", [yellow]{counts['warning']} warn[/yellow]"
    if counts["blocking"]:
        text += f", [red]{counts['blocking']} block[/red]"
    return text


def print_overview(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print one line for each project: its releases, their age, and how it stands."""
    colours = {"unreadable": "red", "blocked": "red", "person": "yellow", "due": "yellow", "stale": "yellow"}
    table = Table()
    for name in ("project", "release", "age", "state"):
        table.add_column(name, overflow="fold")
    for row in rows:
        colour = colours.get(row["state"], "green")
        table.add_row(
            escape(row["project"]),
            "\n".join(f"{one['alias']} {one['id']}" for one in row["releases"]) or "none yet",
            "\n".join(one["age"] for one in row["releases"]),
            f"[{colour}]{escape(chr(10).join(row['says']))}[/{colour}]",
        )
    console.print(table)


def print_status(console: Console, row: dict[str, Any]) -> None:
    """Print how a project stands as a table of its segments, its release, and the work that is left."""
    table = Table(
        title=escape(f"{row['project']}: {row['description']}" if row["description"] else row["project"]),
        title_justify="left",
    )
    for name in ("segment", "rows", f"{row['metric']} on test (95 % interval)", "baseline", "verdicts"):
        table.add_column(name, justify="right" if name in ("rows", "baseline") else "left")
    for one in row["segments"]:
        table.add_row(
            escape(one["segment"]),
            "" if one["rows"] is None else f"{one['rows']:,}",
            _interval(one),
            _figure(one["baseline"]),
            _counts(one["verdicts"]),
        )
    pooled = {"value": None, "low": None, "high": None} | (row["pooled"] or {})
    table.add_section()
    rows = sum(one["rows"] or 0 for one in row["segments"])
    table.add_row("together", f"{rows:,}", _interval(pooled), "", _counts(row["verdicts"]))
    console.print(table)
    release, decision = row["release"], row["review"]
    if decision:
        console.print(f"review: {decision['decision']} ({escape(decision['comment'])})", highlight=False)
    if release:
        console.print(
            f"release: {release['id']} of {release['created_at'][:19]} UTC, {release['rows']:,} predictions, "
            f"round-trip error {release['round_trip_error']:g}",
            highlight=False,
        )
    for work in row["work"]:
        console.print(
            f"{work['state']}: {work['step']} of {escape(work['partition'])}: {escape(work['reason'])}",
            highlight=False,
        )
    for one in row["segments"]:
        for note in one["notes"]:
            console.print(f"note on {escape(one['partition'])}: {escape(note)}", highlight=False)


def print_alerts(console: Console, alerts: Sequence[Any], channels: list[str]) -> None:
    """Print what is open, each with its text and link, and where such things are sent."""
    for one in alerts:
        console.print(f"[bold]{escape(one.title)}[/bold]", highlight=False, soft_wrap=True)
        for line in (*one.text.splitlines(), *([one.link] if one.link else [])):
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    console.print(
        f"{len(alerts)} open; "
        + (f"told to {escape(', '.join(channels))}." if channels else "no channel is set (MLASSETS_ALERTS)."),
        highlight=False,
        soft_wrap=True,
    )


def print_why(console: Console, found: dict[str, Any]) -> None:
    """Print what would run and what would not, a line for all segments about which the same is said."""
    from mlassets.summaries import at_a_glance

    console.print(
        f"[bold]{found['project']}[/bold] at {found['at'][:16].replace('T', ' ')} UTC", highlight=False
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "step", "of", "because"):
        table.add_column(name, overflow="fold")
    colours = {"due": "green", "blocked": "red", "waiting": "yellow", "current": "dim"}
    for entry in at_a_glance(found["steps"]):
        colour = colours[entry["state"]]
        table.add_row(
            f"[{colour}]{entry['state']}[/{colour}]",
            " + ".join(entry["steps"]),
            escape(entry["source"] or _segments(entry["segments"], found["segments"])),
            escape(entry["reason"]),
        )
    console.print(table, highlight=False)


def _segments(names: list[str] | None, every: list[str]) -> str:
    if names is None:
        return "the project"
    if len(names) <= 4:
        return ", ".join(names)
    return (
        f"all {len(every)} segments"
        if len(names) == len(every)
        else f"{', '.join(names[:3])} and {len(names) - 3} more"
    )


def print_findings(console: Console, findings: list[Any]) -> None:
    """Print what the doctor found, a line for each finding, and what to do on the next."""
    marks = {"ok": "[green]ok[/green]   ", "warn": "[yellow]warn[/yellow] ", "wrong": "[red]wrong[/red]"}
    for one in findings:
        console.print(
            f"{marks[one.state]} [bold]{one.area}[/bold]: {escape(one.message)}",
            highlight=False,
            soft_wrap=True,
        )
        if one.remedy:
            console.print(f"      {escape(one.remedy)}", highlight=False, soft_wrap=True)
    counts = {state: sum(one.state == state for one in findings) for state in ("wrong", "warn")}
    console.print(f"{counts['wrong']} wrong, {counts['warn']} to look at.")


def print_releases(console: Console, project: str, rows: list[dict[str, Any]]) -> None:
    """Print the releases of a project as a table, newest first."""
    if not rows:
        console.print(f"{escape(project)} has no release yet.")
        return
    for row in rows:
        word = row["action"].replace("_", " ")
        of = f", holds {row['release_of']}" if row["release_of"] != row["id"] else ""
        stands = f" [green]{row['standing']}[/green]" if row["standing"] else ""
        said = f" ({escape(row['comment'])})" if row["comment"] else ""
        console.print(
            f"{row['id']} {row['created_at'][:19]} UTC{stands}: {word} as {row['alias']} by "
            f"{escape(row['by']) or 'nobody'}{said}{of}",
            highlight=False,
            soft_wrap=True,
        )


def print_verdicts(console: Console, rows: list[dict[str, Any]], every: bool) -> None:
    """Print verdicts as a table: those that failed, or all of them."""
    shown = [row for row in rows if every or row["status"] in ("failed", "crashed")]
    if not rows:
        console.print("Nothing was judged yet.")
        return
    table = Table()
    for name in ("partition", "step", "claim", "status", "severity", "observed", "limit", "n", "found"):
        table.add_column(name, overflow="fold")
    for row in shown:
        colour = {"passed": "green", "not_applicable": "dim"}.get(
            row["status"], "red" if row["blocks"] else "yellow"
        )
        table.add_row(
            escape(row["partition"]),
            row["step"],
            row["claim"],
            f"[{colour}]{row['status']}[/{colour}]",
            row["severity"],
            "" if row["observed"] is None else f"{row['observed']:.4g}",
            row["limit"] or "",
            f"{row['n']:,}",
            escape(row["message"]),
        )
    if shown:
        console.print(table)
    console.print(
        f"{len(rows)} verdicts, {sum(row['status'] in ('failed', 'crashed') for row in rows)} failed."
    )


def _home_words(home: Path | None) -> str:
    return f" --home {home}" if home else ""


if __name__ == "__main__":
    sys.exit(app())
