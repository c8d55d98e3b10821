"""The audit log: list, export, verify."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, StringConstraints

from windlass.domain.audit import LINK_PATTERN, AuditEntry, AuditOutcome, ChainLink
from windlass.domain.projects import Permission
from windlass.domain.text import DisplayName, Identifier
from windlass.kit.spreadsheets import escape_formula
from windlass.services.audit import AuditQuery, AuditTrail
from windlass.wire.audit import AuditOut, AuditVerificationOut, ExportFormat
from windlass.wire.base import Page
from windlass_api import routing
from windlass_api.dependencies import RequestContext, require_global
from windlass_api.paging import paginate
from windlass_api.parameters import CursorText, Limit

router = routing.router(prefix="/v1/audit", tags=["audit"])

_Reader = Annotated[RequestContext, require_global(Permission.AUDIT_READ)]
_LinkText = Annotated[str, StringConstraints(pattern=LINK_PATTERN, max_length=83)]


def _query(
    project: Annotated[Identifier | None, Query(description="name or uid of a project")] = None,
    actor: Annotated[
        DisplayName | None, Query(description="user, id of a job, `system`, or `anonymous`: without a valid credential")
    ] = None,
    action: Annotated[Identifier | None, Query(description="noun and verb, such as `job.create`")] = None,
    outcome: Annotated[AuditOutcome | None, Query(description="accepted changes or denied requests")] = None,
    key: Annotated[Identifier | None, Query(description="id of an API key")] = None,
    request_id: Annotated[Identifier | None, Query(description="id of a request")] = None,
    since: Annotated[AwareDatetime | None, Query(description="entries of this time or later")] = None,
    until: Annotated[AwareDatetime | None, Query(description="entries before this time")] = None,
) -> AuditQuery:
    return AuditQuery(
        project=project,
        actor=actor,
        action=action,
        outcome=outcome,
        key=key,
        request_id=request_id,
        since=since,
        until=until,
    )


_Filter = Annotated[AuditQuery, Depends(_query)]


@router.get("", operation_id="listAudit")
def list_audit(ctx: _Reader, query: _Filter, limit: Limit = 50, cursor: CursorText = None) -> Page[AuditOut]:
    """List audit log entries (accepted changes and denied requests), newest first."""
    trail = ctx.service(AuditTrail)
    return paginate(lambda count, after: trail.page(count, after, query), limit, cursor, lambda entry: entry.id, _out)


@router.get(
    "/export",
    operation_id="exportAudit",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}, "text/csv": {}}}},
)
def export_audit(
    ctx: _Reader,
    query: _Filter,
    format: Annotated[ExportFormat, Query(description="`jsonl`: a JSON object in each line")] = ExportFormat.JSONL,  # noqa: A002 - the name of the parameter
    escape_formulas: Annotated[
        bool, Query(description="CSV: put an apostrophe before text that a spreadsheet would run as a formula")
    ] = True,
) -> StreamingResponse:
    """Export audit log entries, oldest first. The columns of a CSV file are the fields of an entry."""
    parts = ctx.service(AuditTrail).export(query)
    if format is ExportFormat.CSV:
        lines, media_type = _csv(parts, escape_formulas=escape_formulas), "text/csv; charset=utf-8"
    else:
        lines, media_type = _json_lines(parts), "application/x-ndjson"
    disposition = {"Content-Disposition": f'attachment; filename="audit.{format}"'}
    return StreamingResponse(lines, media_type=media_type, headers=disposition)


@router.get("/verification", operation_id="verifyAudit")
def verify_audit(
    ctx: _Reader,
    after: Annotated[
        _LinkText | None, Query(description="`checked` of the part before, as `position:hash`; default: the beginning")
    ] = None,
    head: Annotated[
        _LinkText | None, Query(description="a head that was kept elsewhere: the chain must contain it")
    ] = None,
) -> AuditVerificationOut:
    """Verify a part of the chain of the audit log: repeat with `after` until the result is `complete`."""
    start, saved = (None if text is None else ChainLink.parse(text) for text in (after, head))
    found = ctx.service(AuditTrail).verify(start, saved)
    return AuditVerificationOut.model_validate(found.model_dump())


def _out(entry: AuditEntry) -> AuditOut:
    return AuditOut.model_validate(entry.model_dump())


def _json_lines(parts: Iterable[list[AuditEntry]]) -> Iterator[str]:
    for entries in parts:
        yield "".join(f"{_out(entry).model_dump_json()}\n" for entry in entries)


def _csv(parts: Iterable[list[AuditEntry]], *, escape_formulas: bool) -> Iterator[str]:
    columns = list(AuditOut.model_fields)
    yield _row(columns)
    for entries in parts:
        rows = (_out(entry).model_dump(mode="json") for entry in entries)
        yield "".join(_row([_cell(row[name], escape_formulas=escape_formulas) for name in columns]) for row in rows)


def _cell(value: Any, *, escape_formulas: bool) -> Any:
    match value:
        case None:
            return ""
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case str() if escape_formulas:
            return escape_formula(value)
        case _:
            return value


def _row(cells: list[Any]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()
