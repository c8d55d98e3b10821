"""The chain of the audit log: seals rows, reads them as they are stored, and removes the oldest."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    RowMapping,
    Text,
    bindparam,
    cast,
    delete,
    func,
    select,
    type_coerce,
    update,
)

from windlass.db.audit_tables import AuditChainTable, AuditTable
from windlass.db.repository import table_of
from windlass.db.row_scope import ScopedConnection
from windlass.domain.audit import AuditEntry, ChainLink, ChainState, StoredEntry

_AUDIT, _ENDS = table_of(AuditTable), table_of(AuditChainTable)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Not decoded by the database layer: a damaged row must not end a verification.
_RAW: dict[str, ColumnElement[Any]] = {
    "changes": cast(_AUDIT.c.changes, Text),
    "time": type_coerce(_AUDIT.c.time, BigInteger),
}
_COLUMNS = [_RAW.get(column.name, column).label(column.name) for column in _AUDIT.columns]


def _to_entry(row: RowMapping) -> AuditEntry | None:
    """Return the entry of a row, None if it cannot be read."""
    try:
        time = _EPOCH + timedelta(microseconds=row["time"])
        return AuditEntry.model_validate({**row, "time": time, "changes": json.loads(row["changes"])})
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None


class SqlAuditChain:
    """``ports.AuditChain`` on one connection."""

    def __init__(self, connection: ScopedConnection) -> None:
        self._connection = connection

    def state(self) -> ChainState:
        return self._state(lock=False)

    def lock(self) -> ChainState:
        return self._state(lock=True)

    def _state(self, *, lock: bool) -> ChainState:
        query = select(_ENDS).with_for_update() if lock else select(_ENDS)  # SQLite has one writer, and ignores it
        row = self._connection.execute(query).mappings().one()
        return ChainState(
            anchor=ChainLink(position=row["anchor_position"], hash=row["anchor_hash"]),
            head=ChainLink(position=row["position"], hash=row["hash"]),
        )

    def count_unsealed(self) -> int:
        return self._connection.scalar(select(func.count()).where(_AUDIT.c.position.is_(None))) or 0

    def oldest_unsealed(self) -> datetime | None:
        query = select(_AUDIT.c.time).where(_AUDIT.c.position.is_(None)).order_by(_AUDIT.c.id).limit(1)
        oldest: datetime | None = self._connection.scalar(query)
        return oldest

    def unsealed(self, limit: int) -> list[AuditEntry]:
        query = select(*_COLUMNS).where(_AUDIT.c.position.is_(None)).order_by(_AUDIT.c.id).limit(limit)
        entries = (_to_entry(row) for row in self._connection.execute(query).mappings())
        return [entry for entry in entries if entry is not None]

    def sealed(self, after: int, limit: int) -> list[StoredEntry]:
        position = _AUDIT.c.position
        query = select(*_COLUMNS).where(position > after).order_by(position).limit(limit)
        return [StoredEntry(row["position"], _to_entry(row)) for row in self._connection.execute(query).mappings()]

    def at(self, position: int) -> StoredEntry | None:
        row = self._connection.execute(select(*_COLUMNS).where(_AUDIT.c.position == position)).mappings().one_or_none()
        return None if row is None else StoredEntry(position, _to_entry(row))

    def append(self, entries: Sequence[AuditEntry]) -> None:
        names = ("position", "previous_hash", "hash")
        change = update(_AUDIT).where(_AUDIT.c.id == bindparam("entry"), _AUDIT.c.position.is_(None))
        values = [{"entry": entry.id, **{f"new_{n}": getattr(entry, n) for n in names}} for entry in entries]
        self._connection.execute(change.values({name: bindparam(f"new_{name}") for name in names}), values)
        head = entries[-1]
        self._connection.execute(update(_ENDS).values(position=head.position, hash=head.hash))

    def remove_older(self, time: datetime, limit: int) -> int:
        anchor, position = self.lock().anchor, _AUDIT.c.position
        query = select(position, _AUDIT.c.hash, _AUDIT.c.time).where(position > anchor.position).order_by(position)
        last, removed = anchor, 0
        for row in self._connection.execute(query.limit(limit)):
            if row.time >= time:  # the clock may have been set back since: only what is before this row is removed
                break
            last, removed = ChainLink(position=row.position, hash=row.hash), removed + 1
        if removed:
            self._connection.execute(update(_ENDS).values(anchor_position=last.position, anchor_hash=last.hash))
            self._connection.execute(delete(_AUDIT).where(position <= last.position))
        return removed
