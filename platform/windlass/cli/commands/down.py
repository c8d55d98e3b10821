"""``windlass down``: stop the local server."""

from pathlib import Path
from typing import Annotated

import typer

from windlass.cli import errors, local_server
from windlass.cli.session import Session, command
from windlass.cli.specs import parse_duration
from windlass.sdk.connection import default_home

app = typer.Typer(add_completion=False)


@app.command()
@command
def down(
    session: Session,
    home: Annotated[
        Path | None, typer.Option(help="Data directory; default: WINDLASS_HOME.", show_default=False)
    ] = None,
    timeout: Annotated[str, typer.Option(help="Maximum waiting time.")] = "2m",
) -> None:
    """Stop the server and everything it started. Running jobs resume from their last checkpoint after the next `up`."""
    folder = (home or default_home()).expanduser().absolute()
    server = local_server.read(folder)
    if server is None:
        session.message(f"no server runs on {folder}")
        return
    session.message(f"stopping {server.url} (pid {server.pid})")
    if not local_server.stop(server, parse_duration(timeout)):
        session.message(f"it still runs; see {folder / local_server.LOG_FILE}, or kill it: kill -9 {server.pid}")
        raise typer.Exit(errors.WAIT_TIMED_OUT)
    session.message("stopped")
