"""``windlass session``: your sessions."""

from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.wire.identity import SessionOut

app = command_group("List and end your sessions, such as that of a lost machine.")

_COLUMNS = (
    Column[SessionOut]("id", lambda session: session.id),
    Column[SessionOut]("kind", lambda session: session.kind),
    Column[SessionOut]("age", lambda session: session.created_at),
    Column[SessionOut]("expires", lambda session: session.expires_at.isoformat(timespec="minutes")),
)


@app.command("list")
@command
def list_sessions(session: Session) -> None:
    """List your sessions that have not ended."""
    session.list(session.client.sessions.list(), _COLUMNS, lambda listed: listed.id)


@app.command("end")
@command
def end(session: Session, ended: Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")]) -> None:
    """End a session of yours."""
    session.client.sessions.end(ended)
    session.message(f"{ended} has ended")
