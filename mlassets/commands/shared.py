"""What all commands share: their options, how they print, how they end."""

import json
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
