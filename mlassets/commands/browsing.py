"""`mlassets things`: the catalog as pages."""

from typing import Annotated

import typer

from mlassets.commands.shared import HomeOption, home_of, out

app = typer.Typer()


@app.command(rich_help_panel="Catalog")
def things(
    query: Annotated[
        str, typer.Argument(metavar="[QUERY]", help="What to search for first, as `find` takes it.")
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 3002,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    home: HomeOption = None,
) -> None:
    """Serve pages to browse and search all Things with, read-only. Ends with Ctrl-C."""
    from mlassets.ui import serve_things

    def tell(address: str) -> None:
        out.print(f"Things on {address}; Ctrl-C ends it.", highlight=False, markup=False, soft_wrap=True)
        if open_page:
            typer.launch(address)

    serve_things(home_of(home).settings, host, port, query, tell)
