"""The transactional outbox: an intent commits with the change that requires it; a lease has a fencing counter."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, not_, or_, select, update

from windlass.db.dialect import insert_or_update
from windlass.db.repository import table_of
from windlass.db.row_scope import ScopedConnection
from windlass.db.worker_tables import OutboxTable
from windlass.domain.records import Intent
from windlass.ports import Changes, Clock

_OUTBOX = table_of(OutboxTable)
_INTENT = tuple(_OUTBOX.c[name] for name in Intent.model_fields)


class SqlOutbox:
    """``ports.Outbox`` on one connection."""

    def __init__(self, connection: ScopedConnection, clock: Clock, changes: Changes) -> None:
        self._connection = connection
        self._clock = clock
        self._changes = changes

    def put(self, kind: str, project: str, subject: str, after: timedelta = timedelta()) -> None:
        now = self._clock.now()
        row = {
            "kind": kind,
            "project": project,
            "subject": subject,
            "put_at": now,
            "due_at": now + after if after else None,
        }
        statement = insert_or_update(self._connection.dialect.name, _OUTBOX).values(
            **row, tries=0, fence=0, generation=0, renewals=0
        )
        again = {"generation": _OUTBOX.c.generation + 1}
        self._connection.execute(statement.on_conflict_do_update(index_elements=["kind", "subject"], set_=again))
        self._changes.kinds.add(Intent)

    def _is_due(self) -> Any:
        return or_(_OUTBOX.c.due_at.is_(None), _OUTBOX.c.due_at <= self._clock.now())

    def next_due(
        self, *, skip_kinds: Collection[str] = (), skip_queues: Collection[tuple[str, str]] = ()
    ) -> Intent | None:
        is_skipped = _OUTBOX.c.kind.in_(list(skip_kinds))
        query = select(*_INTENT).where(_OUTBOX.c.holder.is_(None), self._is_due(), not_(is_skipped))
        for kind, project in skip_queues:
            query = query.where(not_(and_(_OUTBOX.c.kind == kind, _OUTBOX.c.project == project)))
        return self._first(query.order_by(_OUTBOX.c.id).limit(1))

    def next_due_at(self) -> datetime | None:
        query = select(func.min(_OUTBOX.c.due_at)).where(_OUTBOX.c.holder.is_(None), not_(self._is_due()))
        due_at: datetime | None = self._connection.scalar(query)
        return due_at

    def oldest(self) -> datetime | None:
        since = func.coalesce(_OUTBOX.c.due_at, _OUTBOX.c.put_at)
        oldest: datetime | None = self._connection.scalar(
            select(func.min(since, type_=_OUTBOX.c.put_at.type)).where(self._is_due())
        )
        return oldest

    def subjects(self, kind: str) -> list[str]:
        query = select(_OUTBOX.c.subject).where(_OUTBOX.c.kind == kind).order_by(_OUTBOX.c.id)
        return list(self._connection.scalars(query))

    def leased(self) -> list[Intent]:
        query = select(*_INTENT).where(_OUTBOX.c.holder.is_not(None)).order_by(_OUTBOX.c.id)
        return [Intent.model_validate(dict(row)) for row in self._connection.execute(query).mappings()]

    def lease(self, intent: Intent, holder: str) -> Intent | None:
        lease = update(_OUTBOX).where(*_guard(intent))
        values = {"holder": holder, "tries": _OUTBOX.c.tries + 1, "fence": _OUTBOX.c.fence + 1, "renewals": 0}
        return self._first(lease.values(values).returning(*_INTENT))

    def renew(self, intents: Collection[Intent]) -> None:
        for intent in intents:
            renewal = update(_OUTBOX).where(*_guard(intent)).values(renewals=_OUTBOX.c.renewals + 1)
            self._connection.execute(renewal)

    def complete(self, intent: Intent) -> bool:
        done = _OUTBOX.delete().where(*_guard(intent), _OUTBOX.c.generation == intent.generation)
        if self._connection.execute(done).rowcount:
            return True
        # Put again while it was handled: what was handled may be older than the change that it was put for.
        self._connection.execute(update(_OUTBOX).where(*_guard(intent)).values(holder=None, tries=0))
        return False

    def _first(self, statement: Any) -> Intent | None:
        row = self._connection.execute(statement).mappings().first()
        return None if row is None else Intent.model_validate(dict(row))


def _guard(intent: Intent) -> tuple[Any, Any]:
    """Match the row while nobody else has leased the intent."""
    return _OUTBOX.c.id == intent.id, _OUTBOX.c.fence == intent.fence
