"""The transactional outbox: an intent commits with the fact that wants it; a claim carries a lease and a fence."""

from datetime import datetime, timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from windlass.db.rows import table_of
from windlass.db.tables import OutboxTable
from windlass.domain.records import Intent
from windlass.ports import Clock

_OUTBOX = table_of(OutboxTable)
_INTENT = ("id", "kind", "project", "subject", "tries", "fence")


class SqlOutbox:
    """``ports.Outbox`` on one connection."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def put(self, kind: str, project: str, subject: str, after: timedelta = timedelta()) -> None:
        standing = select(_OUTBOX.c.id).where(_OUTBOX.c.kind == kind, _OUTBOX.c.subject == subject)
        if self._connection.execute(standing).first() is not None:
            return
        row = {"kind": kind, "project": project, "subject": subject, "due_at": self._clock.now() + after}
        self._connection.execute(insert(_OUTBOX).values(**row, tries=0, fence=0))

    def due(self) -> bool:
        query = select(_OUTBOX.c.id).where(_OUTBOX.c.due_at <= self._clock.now()).limit(1)
        return self._connection.execute(query).first() is not None

    def oldest(self) -> datetime | None:
        query = select(_OUTBOX.c.due_at).where(_OUTBOX.c.due_at <= self._clock.now()).order_by(_OUTBOX.c.due_at)
        return self._connection.scalar(query.limit(1))

    def claim(self, limit: int, lease: timedelta) -> list[Intent]:
        now = self._clock.now()
        due = select(_OUTBOX.c.id).where(_OUTBOX.c.due_at <= now).order_by(_OUTBOX.c.due_at, _OUTBOX.c.id).limit(limit)
        if self._connection.dialect.name == "postgresql":
            due = due.with_for_update(skip_locked=True)
        taken = (
            update(_OUTBOX)
            .where(_OUTBOX.c.id.in_(due))
            .values(due_at=now + lease, tries=_OUTBOX.c.tries + 1, fence=_OUTBOX.c.fence + 1)
            .returning(*(_OUTBOX.c[name] for name in _INTENT))
        )
        rows = self._connection.execute(taken).mappings().all()
        return sorted((Intent.model_validate(dict(row)) for row in rows), key=lambda intent: intent.id)

    def done(self, intent: Intent) -> bool:
        mine = _OUTBOX.delete().where(_OUTBOX.c.id == intent.id, _OUTBOX.c.fence == intent.fence)
        return self._connection.execute(mine).rowcount == 1

    def retry(self, intent: Intent, after: timedelta) -> bool:
        mine = update(_OUTBOX).where(_OUTBOX.c.id == intent.id, _OUTBOX.c.fence == intent.fence)
        return self._connection.execute(mine.values(due_at=self._clock.now() + after)).rowcount == 1
