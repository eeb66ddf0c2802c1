"""What all commands share: their options, how they print, how they end."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

FAILED, WRONG, BLOCKED = 1, 2, 3

out = Console()
err = Console(stderr=True)

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the deployment; by default $MLASSETS_HOME, else .mlassets."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else to standard output.")]


def stop(message: str, code: int) -> NoReturn:
    """End the command with an error in a person's words."""
    err.print(f"[red]error:[/red] {escape(message)}", highlight=False)
    raise typer.Exit(code)


def home_of(home: Path | None) -> Any:
    """Return the home that a command works on, a `mlassets.home.Home`."""
    from mlassets.home import Home

    return Home(home=str(home) if home else None)


def print_json(value: object) -> None:
    """Print JSON to standard output, and nothing else."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def reading_bars(json_output: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show on a terminal how much of what has been read, a bar for each kind."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = err if json_output else out

    class Done(MofNCompleteColumn):
        def render(self, task: Any) -> Any:
            return DownloadColumn().render(task) if task.description == "bytes" else super().render(task)

    columns = (TextColumn("{task.description}"), BarColumn(), Done(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield progress
