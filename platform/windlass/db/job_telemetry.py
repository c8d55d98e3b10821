"""Events, metrics and log chunks of jobs: append-mostly tables with a high write rate."""

from collections.abc import Sequence

from sqlalchemy import func, insert, select

from windlass.db.dialect import insert_or_update
from windlass.db.metric_chunks import MetricChunks
from windlass.db.repository import delete_rows, table_of, to_model, to_row
from windlass.db.row_scope import ScopedConnection
from windlass.db.tables import EventTable, JobTable, LogChunkTable, ReportCursorTable
from windlass.domain.errors import ConflictError, NotFoundError
from windlass.domain.records import Event, MetricSample, StoredLogChunk
from windlass.domain.series import MetricSeries, StepRange

_JOBS, _EVENTS, _LOGS, _CURSORS = (table_of(kind) for kind in (JobTable, EventTable, LogChunkTable, ReportCursorTable))


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
        for job in set(jobs) - self._checked_jobs:
            query = select(_JOBS.c.id).where(_JOBS.c.id == job, _JOBS.c.deleted_at.is_(None))
            if self._project is not None:
                query = query.where(_JOBS.c.project == self._project)
            if self._connection.execute(query).first() is None:
                raise NotFoundError(f"no job {job}")
            self._checked_jobs.add(job)

    def append_event(self, event: Event) -> Event:
        self._check_scope(event.job)
        last = select(func.max(_EVENTS.c.sequence)).where(_EVENTS.c.job == event.job)
        numbered = event.model_copy(update={"sequence": (self._connection.scalar(last) or 0) + 1})
        self._connection.execute(insert(_EVENTS).values(to_row(numbered, _EVENTS)))
        return numbered

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
        statement = insert_or_update(self._connection, _CURSORS).values(
            job=job, attempt=attempt, source=source, sequence=sequence
        )
        upsert = statement.on_conflict_do_update(
            index_elements=["job", "attempt", "source"],
            set_={"sequence": statement.excluded.sequence},
            where=_CURSORS.c.sequence < statement.excluded.sequence,
        )
        return self._connection.execute(upsert.returning(_CURSORS.c.sequence)).first() is not None
