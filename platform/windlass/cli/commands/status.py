"""``windlass status``: the server, and who you are to it."""

from datetime import UTC, datetime

import typer

from windlass import __version__
from windlass.cli import local_server
from windlass.cli.render import Column
from windlass.cli.session import Session, verb
from windlass.domain.errors import NotFoundError
from windlass.sdk.connection import default_home
from windlass.sdk.resources.platform import Server
from windlass.wire.base import Out

app = typer.Typer(add_completion=False)


class _Status(Out):
    url: str
    server: str
    mode: str
    client: str
    found: str
    user: str
    admin: bool
    project: str
    role: str
    mirror: str = ""
    notes: tuple[str, ...] = ()
    home: str = ""
    pid: int | None = None
    since: datetime | None = None


_COLUMNS = (
    Column[_Status]("server", lambda status: status.url),
    Column[_Status]("version", lambda status: f"{status.server} ({status.mode}); this command {status.client}"),
    Column[_Status]("found by", lambda status: status.found),
    Column[_Status]("you are", lambda status: status.user + (", platform admin" if status.admin else "")),
    Column[_Status]("project", lambda status: f"{status.project} ({status.role})"),
    Column[_Status]("mirror", lambda status: status.mirror),
    Column[_Status]("notes", lambda status: list(status.notes) or None),
    Column[_Status]("data", lambda status: status.home),
    Column[_Status]("pid", lambda status: status.pid),
    Column[_Status]("started", lambda status: status.since),
)


@app.command()
@verb
def status(session: Session) -> None:
    """Show the server, its version, and who you are to it; exit 7 when none answers."""
    client = session.client
    server, me = client.server.info(), client.server.whoami()
    project = client.connection.project
    found = _Status(
        url=client.connection.url,
        server=server.version,
        mode=server.mode,
        client=__version__,
        found=client.connection.source,
        user=me.user,
        admin=me.admin,
        project=project,
        role=me.projects.get(project, "platform admin" if me.admin else "no member"),
    )
    if server.mode == "cluster" and me.admin:
        found = found.model_copy(update=_mirror(client.server))
    local = local_server.read(default_home())
    if local is not None and local.url == client.connection.url:
        facts = {"home": str(local.home), "pid": local.pid, "since": datetime.fromtimestamp(local.start_time, UTC)}
        found = found.model_copy(update=facts)
    session.show(found, _COLUMNS, lambda status: status.url)


def _mirror(server: Server) -> dict[str, object]:
    try:
        seen = server.mirror()
    except NotFoundError:
        return {"mirror": "nothing has been read of the cluster yet"}
    waiting = f"; {seen.pending_changes} changes wait" if seen.pending_changes else ""
    read = f"right at {seen.read_at:%H:%M:%S} UTC" if seen.read_at else "nothing has been read of the cluster yet"
    return {"mirror": f"{read}{waiting}", "notes": tuple(seen.notes)}
