"""``windlass audit``: the audit log."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Annotated

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, command
from windlass.cli.specs import parse_duration
from windlass.wire.base import AuditOut

app = typer.Typer(add_completion=False)


@app.command()
@command
def audit(
    session: Session,
    *,
    actor: Annotated[str | None, typer.Option(help="Only changes by this user, this job's id, or system.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, for example dataset.delete.")] = None,
    since: Annotated[str | None, typer.Option(help="Only changes of the last time span, for example 7d.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of entries; 0: all.")] = 50,
) -> None:
    """List accepted changes, newest first: who changed what, and when (platform admins).

    --project selects one project, by name or, if it was deleted, by uid; without it the changes of all are listed.
    """
    entries: Iterable[AuditOut] = session.client.audit.list(project=session.project, actor=actor, action=action)
    if since is not None:
        oldest = datetime.now(UTC) - timedelta(seconds=parse_duration(since))
        entries = takewhile(lambda entry: entry.time >= oldest, entries)
    listed = [*islice(entries, limit or None)]
    names = {} if session.machine else {project.uid: project.name for project in session.client.projects.list()}
    columns = (
        Column[AuditOut]("time", lambda entry: f"{entry.time.astimezone():%Y-%m-%d %H:%M:%S %z}"),
        Column[AuditOut]("actor", lambda entry: entry.actor),
        Column[AuditOut]("action", lambda entry: entry.action),
        Column[AuditOut]("name", lambda entry: entry.name or entry.subject),
        Column[AuditOut]("project", lambda entry: names.get(entry.project or "", entry.project)),
        Column[AuditOut]("subject", lambda entry: entry.subject),
        Column[AuditOut]("request", lambda entry: entry.request_id),
    )
    session.list(listed, columns, lambda entry: entry.id)
