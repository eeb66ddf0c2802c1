"""`mlassets quarantine`: files that could not be taken, and what is done about them."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from mlassets.commands.shared import FAILED, WRONG, HomeOption, JsonOption, home_of, out, print_json, stop

app = typer.Typer(
    help="Files that could not be taken: why, and what is done about them.", no_args_is_help=True
)

FilesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[FILE]...", help="Names, as `list` shows them.")
]
SourceOption = Annotated[str | None, typer.Option(help="Only files of this source.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("list")
def list_quarantine(
    source: SourceOption = None, home: HomeOption = None, json_output: JsonOption = False
) -> None:
    """What could not be taken, where it is wrong, and what would mend it."""
    from mlassets.quarantining import note_path, quarantined

    where = home_of(home)
    notes = quarantined(where, source=source)
    if json_output:
        print_json([_plain(note) | {"note": str(note_path(where, note))} for note in notes])
        return
    for note in notes:
        out.print(escape(note.text), highlight=False, soft_wrap=True)
    if not notes:
        out.print("Nothing is in quarantine.")


@app.command()
def retry(
    files: FilesArgument = None,
    every: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Try files again that have not changed, because a spec has, or this program."""
    from mlassets.quarantining import retry as try_again

    where = home_of(home)
    notes = _chosen(where, files, every, source)
    tried = try_again(where, notes)
    if json_output:
        print_json(
            {"tried": [note.file.name for note in notes], "left": [_plain(note) for note in tried.left]}
        )
    else:
        out.print(f"{len(notes) - len(tried.left):,} of {len(notes):,} files were taken.", highlight=False)
        for note in tried.left:
            out.print(escape(note.text), highlight=False, soft_wrap=True)
    raise typer.Exit(FAILED if tried.left else 0)


@app.command()
def drop(
    files: FilesArgument = None,
    every: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Move files out of the landing zone into the quarantine's folder, and warn of them no more."""
    from mlassets.ingestion.landing import visible
    from mlassets.quarantining import drop as take_out

    where = home_of(home)
    notes = _chosen(where, files, every, source)
    moved = take_out(where, notes).moved
    if json_output:
        print_json({"dropped": [note.file.name for note in notes], "moved": moved})
        return
    for note in notes:
        place = f", and is now {moved[note.file.name]}" if note.file.name in moved else ""
        out.print(
            f"{escape(visible(note.file.name))} is dropped{escape(place)}.", highlight=False, soft_wrap=True
        )


def _chosen(where: Any, files: list[str] | None, every: bool, source: str | None) -> Any:
    from mlassets.quarantining import quarantined

    if every == bool(files):
        stop("name the files, or give --all", WRONG)
    return quarantined(where, files or (), source)


def _plain(note: Any) -> dict[str, Any]:
    return {
        "source": note.source,
        "name": note.file.name,
        "kind": note.kind,
        "reason": note.reason,
        "fix": note.fix,
        "details": dict(note.details),
        "excerpt": note.excerpt,
        "rejected": note.rejected,
        "noted_at": note.noted_at,
    }
