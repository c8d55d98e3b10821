"""Events, metrics and log chunks of jobs: append-mostly tables with a high write rate."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import bindparam, func, insert, select

from windlass.db.dialect import insert_or_update
from windlass.db.metric_chunks import MetricChunks
from windlass.db.repository import delete_rows, table_of, to_model, to_row
from windlass.db.row_scope import ScopedConnection
from windlass.db.tables import EventTable, JobTable, LogChunkTable, ReportCursorTable
from windlass.domain.errors import ConflictError, NotFoundError
from windlass.domain.records import Event, MetricSample, StoredLogChunk
from windlass.domain.series import MetricSeries, StepRange

_JOBS, _EVENTS, _LOGS, _CURSORS = (table_of(kind) for kind in (JobTable, EventTable, LogChunkTable, ReportCursorTable))


_FIND_JOB = select(_JOBS.c.id).where(_JOBS.c.id == bindparam("of_job"), _JOBS.c.deleted_at.is_(None))
_FIND_JOB_OF_PROJECT = _FIND_JOB.where(_JOBS.c.project == bindparam("of_project"))
_LAST_EVENT = select(func.coalesce(func.max(_EVENTS.c.sequence), 0)).where(_EVENTS.c.job == bindparam("of_job"))
_APPEND_EVENT = insert(_EVENTS).values(sequence=_LAST_EVENT.scalar_subquery() + 1).returning(_EVENTS.c.sequence)


@cache
def _advance_cursor(dialect: str) -> Any:
    """Return the statement that stores the sequence of a batch; it returns a row if the stored one was lower."""
    statement = insert_or_update(dialect, _CURSORS)
    upsert = statement.on_conflict_do_update(
        index_elements=["job", "attempt", "source"],
        set_={"sequence": statement.excluded.sequence},
        where=_CURSORS.c.sequence < statement.excluded.sequence,
    )
    return upsert.returning(_CURSORS.c.sequence)


class SqlJobTelemetry:
    """``ports.JobTelemetryStore`` on one connection; ``project`` None means all projects.

    Metrics and report cursors have no project column, so every call first checks that the job is in the project.
    """

    def __init__(self, connection: ScopedConnection, project: str | None) -> None:
        self._connection = connection
        self._project = project
        self._checked_jobs: set[str] = set()
        self._metrics = MetricChunks(connection)

    def _check_scope(self, *jobs: str) -> None:
        """Raise NotFoundError for a job out of scope. A checked job is cached for this transaction."""
        query = _FIND_JOB if self._project is None else _FIND_JOB_OF_PROJECT
        for job in set(jobs) - self._checked_jobs:
            if self._connection.execute(query, {"of_job": job, "of_project": self._project}).first() is None:
                raise NotFoundError(f"no job {job}")
            self._checked_jobs.add(job)

    def append_event(self, event: Event) -> Event:
        self._check_scope(event.job)
        row = to_row(event, _EVENTS)
        del row["sequence"]
        sequence = self._connection.execute(_APPEND_EVENT, row | {"of_job": event.job}).scalar_one()
        return event.model_copy(update={"sequence": sequence})

    def newest_event(self, job: str) -> Event | None:
        self._check_scope(job)
        query = select(_EVENTS).where(_EVENTS.c.job == job).order_by(_EVENTS.c.sequence.desc()).limit(1)
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else to_model(Event, row)

    def events(self, job: str, after: int, limit: int) -> list[Event]:
        self._check_scope(job)
        query = select(_EVENTS).where(_EVENTS.c.job == job, _EVENTS.c.sequence > after)
        rows = self._connection.execute(query.order_by(_EVENTS.c.sequence).limit(limit)).mappings()
        return [to_model(Event, row) for row in rows]

    def add_metrics(self, points: Sequence[MetricSample]) -> None:
        self._check_scope(*(point.job for point in points))
        self._metrics.add(points)

    def drop_metrics_above(self, job: str, step: int) -> None:
        self._check_scope(job)
        self._metrics.drop_above(job, step)

    def series(self, job: str, names: Sequence[str], steps: StepRange, points: int) -> list[MetricSeries]:
        self._check_scope(job)
        return self._metrics.series(job, names, steps, points)

    def metric_points(self, job: str, name: str, after: int, limit: int) -> list[MetricSample]:
        self._check_scope(job)
        return self._metrics.points(job, name, after, limit)

    def append_log(self, chunk: StoredLogChunk) -> None:
        length = self.log_length(chunk.job)
        if chunk.start != length:
            raise ConflictError(f"the log is {length} bytes long; the chunk starts at {chunk.start}")
        self._connection.execute(insert(_LOGS).values(to_row(chunk, _LOGS)))

    def log_length(self, job: str) -> int:
        self._check_scope(job)
        return self._connection.scalar(select(func.max(_LOGS.c.end)).where(_LOGS.c.job == job)) or 0

    def log_chunks(self, job: str, offset: int, limit: int) -> list[StoredLogChunk]:
        self._check_scope(job)
        query = select(_LOGS).where(_LOGS.c.job == job, _LOGS.c.end > offset).order_by(_LOGS.c.end).limit(limit)
        return [to_model(StoredLogChunk, row) for row in self._connection.execute(query).mappings()]

    def newest_batch(self, job: str, attempt: int, source: str) -> int:
        self._check_scope(job)
        key = (_CURSORS.c.job == job, _CURSORS.c.attempt == attempt, _CURSORS.c.source == source)
        return self._connection.scalar(select(_CURSORS.c.sequence).where(*key)) or 0

    def delete_history(self, job: str, limit: int) -> int:
        self._check_scope(job)
        newest = select(func.max(_EVENTS.c.sequence)).where(_EVENTS.c.job == job).scalar_subquery()
        deleted = delete_rows(self._connection, _LOGS, [_LOGS.c.job == job], limit)
        events = [_EVENTS.c.job == job, _EVENTS.c.sequence < newest]  # the newest one has the last number
        return deleted + delete_rows(self._connection, _EVENTS, events, limit - deleted)

    def accept_batch(self, job: str, attempt: int, source: str, sequence: int) -> bool:
        self._check_scope(job)
        batch = {"job": job, "attempt": attempt, "source": source, "sequence": sequence}
        return self._connection.execute(_advance_cursor(self._connection.dialect.name), batch).first() is not None
