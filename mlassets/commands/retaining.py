"""`mlassets retire` and `gc`: taking versions out of use, and removing the bytes of those that were long ago."""

from collections import defaultdict
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
    reading_bars,
    stop,
)

app = typer.Typer()

POLICIES = "retention.yaml"


@app.command(rich_help_panel="Catalog")
def retire(
    things: Annotated[
        list[str] | None,
        typer.Argument(metavar="[THING]...", help="What is to be retired; id, name, or address."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the Thing.")] = "",
    by_policy: Annotated[
        bool, typer.Option("--by-policy", help=f"Retire what {POLICIES} in the home does not keep.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be retired.")] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Take versions out of use: they are passed over from then on, and `gc` removes their bytes in time."""
    store, asked, needed = _to_retire(home_of(home), things or [], reason, by_policy)
    found = [one for one in asked if not one.pop("already", False)]
    if not dry_run:
        for one in found:
            store.retire(one["id"], one["reason"])
    if json_output:
        retired = [] if dry_run else [one["id"] for one in found]
        print_json({"retired": retired, "things": found, "needed": needed})
        return
    word = "would be retired" if dry_run else "retired"
    size = sum(one["size"] for one in found)
    out.print(f"{len(found):,} Things of {size:,} bytes {word}.", highlight=False)
    for one in found:
        out.print(
            f"  {one['id']}  {escape(one['step'])} of {escape(one['partition'])}: {escape(one['reason'])}",
            highlight=False,
            soft_wrap=True,
        )
    if needed:
        out.print(
            f"{needed:,} more stay: a release or the newest version of something was made from them.",
            highlight=False,
        )
    if len(asked) > len(found):
        out.print(
            f"{len(asked) - len(found):,} were retired before; nothing changes for them.", highlight=False
        )


def _to_retire(
    where: Any, things: list[str], reason: str, by_policy: bool
) -> tuple[Any, list[dict[str, Any]], int]:
    """Return the store, what is to be retired, each with its reason, and how many more something needs."""
    if by_policy == bool(things):
        stop("name the Things to retire, or give --by-policy", WRONG)
    store = where.store
    if by_policy:
        from mlassets.steps import SOURCES, STEPS
        from resources.retaining import expired, load_policies
        from resources.uploads import UPLOADS

        path = where.settings.home / POLICIES
        policies = load_policies(path, (SOURCES, *STEPS, UPLOADS))
        if not policies:
            stop(
                f"{path} does not exist, so that everything is kept; write one, or name the Things to retire",
                WRONG,
            )
        found_by_policy = expired(store, policies)
        return store, [vars(one) for one in found_by_policy.going], found_by_policy.needed
    if not reason.strip():
        stop("say why with --reason", WRONG)
    chosen = [
        {
            "id": one.id,
            "step": one.step,
            "partition": one.partition.key,
            "created_at": one.manifest["created_at"],
            "size": sum(part.size for part in one.components),
            "reason": reason,
            "already": one.retired_at is not None,
        }
        for one in map(store.get, things)
    ]
    return store, chosen, 0


@app.command(rich_help_panel="Catalog")
def gc(
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="For how long a Thing must have been retired: 30d, 12h.")
    ] = "30d",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Remove the bytes of what was retired long enough ago; lineage, hashes and provenance stay.

    What a release that is not retired was made from never goes, nor does what another Thing shares.
    """
    from resources.retaining import duration

    try:
        wanted = duration(grace)
    except ValueError as error:
        stop(f"--grace: {error}", WRONG)
    store = home_of(home).store
    if dry_run:
        _print_plan(store.removable(wanted), json_output)
        return
    with reading_bars(json_output) as progress:
        done = store.gc(wanted, progress)
    if json_output:
        print_json(vars(done))
    else:
        out.print(
            f"The data of {len(done.things):,} Things was removed: {done.files:,} files of {done.size:,} bytes.",
            highlight=False,
        )
        if done.young:
            out.print(f"{len(done.young):,} stay for now, by the lake's own clock.", highlight=False)
        for line in done.problems:
            err.print(f"[red]not removed:[/red] {escape(line)}", highlight=False, soft_wrap=True)
    raise typer.Exit(FAILED if done.problems else 0)


def _print_plan(plan: Any, json_output: bool) -> None:
    if json_output:
        print_json(
            {
                "things": [one._asdict() for one in plan.removals],
                "files": plan.files,
                "bytes": plan.size,
                "kept": dict(plan.kept),
                "named": dict(plan.named),
            }
        )
        return
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in plan.removals:
        for number, value in enumerate((1, one.files, one.size)):
            sums[one.step][number] += value
    table = Table("step", "Things", "files", "bytes", box=None, pad_edge=False)
    for step, values in sorted(sums.items()):
        table.add_row(escape(step), *(f"{value:,}" for value in values))
    out.print(
        f"{len(plan.removals):,} Things would go: {plan.files:,} files of {plan.size:,} bytes.",
        highlight=False,
    )
    if sums:
        out.print(table)
    for reason, count in sorted(plan.kept.items()):
        out.print(f"{count:,} stay: {escape(reason)}.", highlight=False)
