"""``windlass audit``: the audit log."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli import errors
from windlass.cli.audit_file import verify_file
from windlass.cli.output_files import require_folder
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.cli.specs import parse_time
from windlass.domain.audit import AuditOutcome
from windlass.wire.audit import AuditOut, AuditVerificationOut, ExportFormat

app = command_group("List, export and verify the audit log: who changed what, when and from where (platform admins).")


Actor = Annotated[str | None, typer.Option(help="Only of this user, this job's id, system or anonymous.")]
Action = Annotated[str | None, typer.Option(help="Only this action, for example dataset.delete.")]
Outcome = Annotated[AuditOutcome | None, typer.Option(help="Only accepted changes, or only denied requests.")]
Key = Annotated[str | None, typer.Option(help="Only of the API key with this id.")]
RequestId = Annotated[str | None, typer.Option("--request", help="Only of the request with this id.")]
Since = Annotated[
    str | None, typer.Option(help="Only of the last time span, for example 7d, or since a time of ISO 8601.")
]
Until = Annotated[str | None, typer.Option(help="Only before a time span ago, or before a time of ISO 8601.")]


@app.command("list")
@command
def list_entries(  # noqa: PLR0913 - one for each option
    session: Session,
    *,
    actor: Actor = None,
    action: Action = None,
    outcome: Outcome = None,
    key: Key = None,
    request: RequestId = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of entries; 0: all.")] = 50,
) -> None:
    """List accepted changes and denied requests, newest first.

    --project selects one project, by name or, if it was deleted, by uid; without it the entries of all are listed.
    -o json shows what changed, the hashes and the other fields.
    """
    entries = session.client.audit.list(
        project=session.project,
        actor=actor,
        action=action,
        outcome=None if outcome is None else outcome.value,
        key=key,
        request_id=request,
        since=parse_time(since),
        until=parse_time(until),
    )
    listed = [*islice(entries, limit or None)]
    names = {} if session.machine else {project.uid: project.name for project in session.client.projects.list()}
    columns = (
        Column[AuditOut]("time", lambda entry: f"{entry.time.astimezone():%Y-%m-%d %H:%M:%S %z}"),
        Column[AuditOut]("actor", lambda entry: entry.actor),
        Column[AuditOut]("action", lambda entry: entry.action),
        Column[AuditOut]("name", lambda entry: entry.name or entry.subject),
        Column[AuditOut]("outcome", _outcome),
        Column[AuditOut]("project", lambda entry: names.get(entry.project or "", entry.project)),
        Column[AuditOut]("address", lambda entry: entry.address),
        Column[AuditOut]("subject", lambda entry: entry.subject),
        Column[AuditOut]("key", lambda entry: entry.key),
        Column[AuditOut]("request", lambda entry: entry.request_id),
    )
    session.list(listed, columns, lambda entry: entry.id)


@app.command()
@command
def export(  # noqa: PLR0913 - one for each option
    session: Session,
    *,
    out: Annotated[Path, typer.Option(help="File to write, or to replace.")],
    format: Annotated[  # noqa: A002 - the name of the option
        ExportFormat | None, typer.Option(help="Default: csv for a file name that ends in .csv, else jsonl.")
    ] = None,
    escape_formulas: Annotated[
        bool,
        typer.Option(help="CSV: put an apostrophe before text that a spreadsheet would run as a formula."),
    ] = True,
    actor: Actor = None,
    action: Action = None,
    outcome: Outcome = None,
    key: Key = None,
    request: RequestId = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write the entries into a file, oldest first: JSON lines or CSV. --project selects one project."""
    require_folder(out)
    chosen = format or (ExportFormat.CSV if out.suffix.lower() == ".csv" else ExportFormat.JSONL)
    session.client.audit.export(
        out,
        format=chosen.value,
        escape_formulas=escape_formulas,
        project=session.project,
        actor=actor,
        action=action,
        outcome=None if outcome is None else outcome.value,
        key=key,
        request_id=request,
        since=parse_time(since),
        until=parse_time(until),
    )
    session.message(f"wrote {out}")


@app.command()
@command
def verify(
    session: Session,
    *,
    head: Annotated[
        str | None,
        typer.Option(help="A head that this command printed earlier, as 1234:HASH."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Verify an exported file of JSON lines, without the server."),
    ] = None,
) -> None:
    """Recompute the chain of hashes of the audit log, and print its head. Exit code 1: it is broken.

    Keep the head where an admin of the database cannot change it. With --head, a log that was cut or written anew is
    found too.
    """
    found = verify_file(file, head) if file is not None else session.client.audit.verify(head=head)
    columns = (
        Column[AuditVerificationOut]("result", lambda _: "intact" if found.problem is None else "BROKEN"),
        Column[AuditVerificationOut]("problem", lambda _: found.problem.message if found.problem else None),
        Column[AuditVerificationOut]("verified", lambda _: str(found.rows)),
        Column[AuditVerificationOut]("not sealed", lambda _: str(found.unsealed)),
        Column[AuditVerificationOut]("begins after", lambda _: str(found.anchor.position)),
        Column[AuditVerificationOut]("head", lambda _: found.head.text),
    )
    session.show(found, columns, lambda _: found.head.text)
    if found.problem is not None:
        raise typer.Exit(errors.FAILED)


def _outcome(entry: AuditOut) -> str:
    if entry.outcome is AuditOutcome.ACCEPTED:
        return entry.outcome
    code = f"{entry.outcome} {entry.code}".rstrip()
    return code if entry.count == 1 else f"{code} x{entry.count}"
