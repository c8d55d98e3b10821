"""Events, metrics and log chunks of jobs: append-mostly tables on the hot path."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

from windlass.db.rows import table_of, to_fact, to_row
from windlass.db.tables import EventTable, JobTable, LogChunkTable, MetricTable, ReportCursorTable
from windlass.domain.errors import ConflictError, NotFoundError
from windlass.domain.records import Event, LogChunk, MetricPoint

_JOBS, _EVENTS, _METRICS, _LOGS, _CURSORS = (
    table_of(kind) for kind in (JobTable, EventTable, MetricTable, LogChunkTable, ReportCursorTable)
)


class SqlJournal:
    """``ports.JobJournal`` on one connection; ``project`` None sees all projects.

    Metrics and report cursors have no column for it, so the scope is held by the job: each call asks for a job of the
    project first, and finds no other's.
    """

    def __init__(self, connection: Connection, project: str | None) -> None:
        self._connection = connection
        self._project = project
        self._known: set[str] = set()
        self._upsert: Callable[[Any], Any] = sqlite.insert
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - a fifth of a second that SQLite can start without

            self._upsert = postgresql.insert

    def _enter(self, *jobs: str) -> None:
        """Refuse jobs that are not in scope; a job that was found stays found for this transaction."""
        for job in set(jobs) - self._known:
            found = select(_JOBS.c.id).where(_JOBS.c.id == job)
            if self._project is not None:
                found = found.where(_JOBS.c.project == self._project)
            if self._connection.execute(found).first() is None:
                raise NotFoundError(f"no job {job}")
            self._known.add(job)

    def append_event(self, event: Event) -> Event:
        self._enter(event.job)
        last = select(func.max(_EVENTS.c.sequence)).where(_EVENTS.c.job == event.job)
        numbered = event.model_copy(update={"sequence": (self._connection.scalar(last) or 0) + 1})
        self._connection.execute(insert(_EVENTS).values(to_row(numbered, _EVENTS)))
        return numbered

    def events(self, job: str, after: int, limit: int) -> list[Event]:
        self._enter(job)
        mine = select(_EVENTS).where(_EVENTS.c.job == job, _EVENTS.c.sequence > after)
        rows = self._connection.execute(mine.order_by(_EVENTS.c.sequence).limit(limit)).mappings()
        return [to_fact(Event, row) for row in rows]

    def add_metrics(self, points: Sequence[MetricPoint]) -> None:
        if not points:
            return
        self._enter(*(point.job for point in points))
        draft = self._upsert(_METRICS)
        newer = draft.on_conflict_do_update(
            index_elements=["job", "name", "step"],
            set_={name: draft.excluded[name] for name in ("attempt", "value", "time")},
            where=_METRICS.c.attempt <= draft.excluded.attempt,
        )
        self._connection.execute(newer, [to_row(point, _METRICS) for point in points])

    def drop_metrics_above(self, job: str, step: int) -> None:
        self._enter(job)
        self._connection.execute(delete(_METRICS).where(_METRICS.c.job == job, _METRICS.c.step > step))

    def metrics(self, job: str, names: Sequence[str], after: int) -> list[MetricPoint]:
        self._enter(job)
        mine = select(_METRICS).where(_METRICS.c.job == job, _METRICS.c.step > after)
        if names:
            mine = mine.where(_METRICS.c.name.in_(names))
        rows = self._connection.execute(mine.order_by(_METRICS.c.name, _METRICS.c.step)).mappings()
        return [to_fact(MetricPoint, row) for row in rows]

    def append_log(self, chunk: LogChunk) -> None:
        length = self.log_length(chunk.job)
        if chunk.start != length:
            raise ConflictError(f"the log is {length} bytes long; the chunk starts at {chunk.start}")
        self._connection.execute(insert(_LOGS).values(to_row(chunk, _LOGS)))

    def log_length(self, job: str) -> int:
        self._enter(job)
        return self._connection.scalar(select(func.max(_LOGS.c.end)).where(_LOGS.c.job == job)) or 0

    def log_chunks(self, job: str, offset: int, limit: int) -> list[LogChunk]:
        self._enter(job)
        mine = select(_LOGS).where(_LOGS.c.job == job, _LOGS.c.end > offset).order_by(_LOGS.c.end).limit(limit)
        return [to_fact(LogChunk, row) for row in self._connection.execute(mine).mappings()]

    def take_batch(self, job: str, attempt: int, source: str, sequence: int) -> bool:
        self._enter(job)
        draft = self._upsert(_CURSORS).values(job=job, attempt=attempt, source=source, sequence=sequence)
        newer = draft.on_conflict_do_update(
            index_elements=["job", "attempt", "source"],
            set_={"sequence": draft.excluded.sequence},
            where=_CURSORS.c.sequence < draft.excluded.sequence,
        )
        return self._connection.execute(newer).rowcount == 1
