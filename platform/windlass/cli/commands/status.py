"""``windlass status``: the server, your user and your role."""

from datetime import UTC, datetime

import typer

from windlass import __version__
from windlass.cli import local_server
from windlass.cli.render import Column
from windlass.cli.session import Session, command
from windlass.domain.errors import NotFoundError
from windlass.sdk import Client
from windlass.sdk.connection import default_home
from windlass.wire.base import Out

app = typer.Typer(add_completion=False)


class _Status(Out):
    url: str
    server: str
    mode: str
    client: str
    connection_source: str
    user: str
    platform_role: str | None
    project: str
    role: str
    worker: str
    cluster_sync: str = ""
    notes: tuple[str, ...] = ()
    home: str = ""
    pid: int | None = None
    since: datetime | None = None


_COLUMNS = (
    Column[_Status]("server", lambda status: status.url),
    Column[_Status]("version", lambda status: f"{status.server} ({status.mode}); client {status.client}"),
    Column[_Status]("configured by", lambda status: status.connection_source),
    Column[_Status]("user", lambda status: status.user + (f", {status.platform_role}" if status.platform_role else "")),
    Column[_Status]("project", lambda status: f"{status.project} ({status.role})"),
    Column[_Status]("worker", lambda status: status.worker),
    Column[_Status]("cluster sync", lambda status: status.cluster_sync),
    Column[_Status]("notes", lambda status: list(status.notes) or None),
    Column[_Status]("data", lambda status: status.home),
    Column[_Status]("pid", lambda status: status.pid),
    Column[_Status]("started", lambda status: status.since),
)


@app.command()
@command
def status(session: Session) -> None:
    """Show the server, its version, your user and your role; exit 7 if no server answers."""
    client = session.client
    server, me = client.server.info(), client.server.whoami()
    project = client.connection.project
    result = _Status(
        url=client.connection.url,
        server=server.version,
        mode=server.mode,
        client=__version__,
        connection_source=client.connection.source,
        user=me.user,
        platform_role=me.platform_role,
        project=project,
        worker=server.worker_problem or "running",
        role=me.projects.get(project, me.platform_role or "not a member"),
    )
    if server.mode == "cluster" and me.platform_role:
        result = result.model_copy(update=_cluster_sync(client))
    local = local_server.read(default_home())
    if local is not None and local.url == client.connection.url:
        process = {"home": str(local.home), "pid": local.pid, "since": datetime.fromtimestamp(local.start_time, UTC)}
        result = result.model_copy(update=process)
    session.show(result, _COLUMNS, lambda status: status.url)


def _cluster_sync(client: Client) -> dict[str, object]:
    try:
        sync = client.server.cluster_sync()
    except NotFoundError:
        return {"cluster_sync": "not synced yet"}
    pending = f"; {sync.pending_changes} changes pending" if sync.pending_changes else ""
    synced = f"as of {sync.synced_at:%H:%M:%S} UTC" if sync.synced_at else "not synced yet"
    return {"cluster_sync": f"{synced}{pending}", "notes": tuple(sync.notes)}
