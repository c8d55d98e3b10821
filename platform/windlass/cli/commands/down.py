"""``windlass down``: stop the server of this machine."""

from pathlib import Path
from typing import Annotated

import typer

from windlass.cli import failures, local_server
from windlass.cli.session import Session, verb
from windlass.cli.specs import seconds
from windlass.sdk.connection import default_home

app = typer.Typer(add_completion=False)


@app.command()
@verb
def down(
    session: Session,
    home: Annotated[Path | None, typer.Option(help="Data folder; else WINDLASS_HOME.", show_default=False)] = None,
    timeout: Annotated[str, typer.Option(help="Stop waiting after this long.")] = "2m",
) -> None:
    """Stop the server with all that it started. Running jobs go on from their last checkpoint after the next `up`."""
    folder = (home or default_home()).expanduser().absolute()
    server = local_server.read(folder)
    if server is None:
        session.say(f"no server runs over {folder}")
        return
    session.say(f"stopping {server.url} (pid {server.pid})")
    if not local_server.stop(server, seconds(timeout)):
        session.say(f"it still runs; look at {folder / local_server.LOG_FILE}, or end it with kill -9 {server.pid}")
        raise typer.Exit(failures.WAIT_TIMED_OUT)
    session.say("stopped")
