"""Verifies an exported audit log on the machine of the caller, without a server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from windlass.domain.audit import ChainLink, ChainProblemKind, fields_hash
from windlass.domain.errors import InvalidError
from windlass.wire.audit import AuditVerificationOut, ChainLinkOut, ChainProblemOut

_FIELDS = ("position", "previous_hash", "hash")


def verify_file(file: Path, head: str | None) -> AuditVerificationOut:
    """Recompute the chain of a file of JSON lines; it must contain the link ``head``.

    The file may be the export of a time range, but of no other filter: positions without an entry are missing ones.

    Raises:
        InvalidError: the file cannot be read, or ``head`` has another form.
    """
    saved = None if head is None else ChainLink.parse(head)
    rows = sorted(_rows(file), key=lambda row: (row["position"] is None, row["position"] or 0))
    sealed = [row for row in rows if row["position"] is not None]
    anchor = ChainLink()
    if sealed:
        anchor = ChainLink(position=sealed[0]["position"] - 1, hash=sealed[0]["previous_hash"])
    last = anchor
    problem, found_saved = None, saved == last
    for row in sealed:
        problem = _problem(row, last)
        if problem is not None:
            break
        last = ChainLink(position=row["position"], hash=row["hash"])
        found_saved |= saved == last
    if problem is None and saved is not None and not found_saved:
        problem = _end(saved, anchor, last)
    return AuditVerificationOut(
        checked=_out(last),
        head=_out(last),
        anchor=_out(anchor),
        rows=last.position - anchor.position,
        complete=True,
        problem=problem,
        unsealed=len(rows) - len(sealed),
        oldest_unsealed=None,
    )


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                if not isinstance(row, dict) or not all(name in row for name in _FIELDS):
                    raise InvalidError(f"line {number} of {file} is no entry of the audit log")
                yield row
    except (OSError, ValueError) as error:
        hint = "export it with `windlass audit export --out FILE.jsonl`"
        raise InvalidError(f"{file} cannot be read as JSON lines: {error}", hint=hint) from error


def _problem(row: dict[str, Any], last: ChainLink) -> ChainProblemOut | None:
    expected = last.position + 1
    if row["position"] != expected:
        kind, message = ChainProblemKind.MISSING, f"row {expected} is missing: the next one is {row['position']}"
    elif row["previous_hash"] != last.hash:
        kind, message = ChainProblemKind.REORDERED, f"row {expected} does not follow row {last.position}"
    elif row["hash"] != fields_hash(row):
        kind, message = ChainProblemKind.CHANGED, f"row {expected} was changed: it does not match its hash"
    else:
        return None
    return ChainProblemOut(position=expected, kind=kind, message=message)


def _end(saved: ChainLink, anchor: ChainLink, last: ChainLink) -> ChainProblemOut:
    if saved.position > last.position:
        kind, message = ChainProblemKind.TRUNCATED, f"the file ends at row {last.position}"
    elif saved.position < anchor.position:
        kind, message = ChainProblemKind.MISSING, f"the file begins after row {anchor.position}"
    else:
        kind, message = ChainProblemKind.CHANGED, "that row has another hash"
    return ChainProblemOut(
        position=saved.position, kind=kind, message=f"the saved head is row {saved.position}: {message}"
    )


def _out(link: ChainLink) -> ChainLinkOut:
    return ChainLinkOut(position=link.position, hash=link.hash)
