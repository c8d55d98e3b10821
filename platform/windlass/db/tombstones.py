"""Deleted projects and jobs: marked in the request, removed in chunks afterwards."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Table, delete, select, update

from windlass.db import cluster_tables as c
from windlass.db import identity_tables as i
from windlass.db import metering_tables as m
from windlass.db import protection_tables as p
from windlass.db import tables as t
from windlass.db.repository import delete_rows, table_of
from windlass.db.row_scope import ScopedConnection
from windlass.domain.jobs import Job
from windlass.domain.projects import Project
from windlass.domain.records import Tombstone
from windlass.ports import Changes

_PROJECTS, _JOBS, _MODELS = table_of(t.ProjectTable), table_of(t.JobTable), table_of(t.ModelTable)
_OF_JOB = tuple(
    table_of(kind)
    for kind in (
        t.EventTable,
        t.MetricChunkTable,
        t.LogChunkTable,
        t.ReportCursorTable,
        t.CheckpointTable,
        m.AttemptTable,
        m.GpuReservationTable,
        t.RunTable,
    )
)
_OF_MODEL = (table_of(t.ModelVersionTable),)
_OF_PROJECT = tuple(
    table_of(kind)
    for kind in (
        t.LineageTable,
        t.IdempotencyRecordTable,
        t.QueueTimeSampleTable,
        t.DatasetVersionTable,
        t.DatasetTable,
        t.UploadTable,
        t.EndpointTable,
        t.QuotaTable,
        i.MemberTable,
        i.ApiKeyTable,
        i.ServiceAccountTable,
        c.QuotaChangeTable,
        m.BudgetTable,
        m.BudgetAlertTable,
        m.GpuReservationTable,
        m.EndpointTrafficTable,
        p.DataKeyTable,
        p.CascadeDeletionTable,
        p.ErasureTable,
    )
)
_PARENTS = 200
"""Jobs or models whose rows one chunk deletes, so that a chunk is short when each has few rows."""


class SqlTombstoneStore:
    """``ports.TombstoneStore`` on one connection. Every table that refers to a project or a job is listed above."""

    def __init__(self, connection: ScopedConnection, changes: Changes) -> None:
        self._connection = connection
        self._changes = changes

    def mark(self, deleted: Tombstone, now: datetime) -> None:
        table, key = _row(deleted)
        self._changes.delete(Project if deleted.job is None else Job, {"id": key})
        self._connection.execute(update(table).where(table.c.id == key).values(deleted_at=now))

    def all(self, limit: int) -> list[Tombstone]:
        jobs = select(_JOBS.c.project, _JOBS.c.id.label("job")).where(_JOBS.c.deleted_at.is_not(None))
        projects = select(_PROJECTS.c.id.label("project")).where(_PROJECTS.c.deleted_at.is_not(None))
        queries = (jobs.order_by(_JOBS.c.id), projects.order_by(_PROJECTS.c.id))
        rows = [row for query in queries for row in self._connection.execute(query.limit(limit)).mappings()]
        return [Tombstone.model_validate(dict(row)) for row in rows]

    def delete_rows(self, deleted: Tombstone, limit: int) -> int:
        if deleted.job is not None:
            return self._delete_children("job", _OF_JOB, [deleted.job], limit)
        count = self._delete_with_parents(_JOBS, "job", _OF_JOB, deleted.project, limit)
        count += self._delete_with_parents(_MODELS, "model", _OF_MODEL, deleted.project, limit - count)
        for table in _OF_PROJECT:
            if count < limit:
                count += delete_rows(self._connection, table, [table.c.project == deleted.project], limit - count)
        return count

    def remove(self, deleted: Tombstone) -> None:
        table, key = _row(deleted)
        self._connection.execute(delete(table).where(table.c.id == key))

    def _delete_with_parents(
        self, parents: Table, column: str, children: Sequence[Table], project: str, limit: int
    ) -> int:
        """Delete rows of the project's first parents, then these parents."""
        query = select(parents.c.id).where(parents.c.project == project).order_by(parents.c.id)
        ids = list(self._connection.scalars(query.limit(min(limit, _PARENTS))))
        deleted = self._delete_children(column, children, ids, limit)
        if deleted < limit:
            first = ids[: limit - deleted]
            deleted += self._connection.execute(delete(parents).where(parents.c.id.in_(first))).rowcount
        return deleted

    def _delete_children(self, column: str, tables: Sequence[Table], ids: Sequence[str], limit: int) -> int:
        deleted = 0
        for table in tables:
            if deleted < limit:
                deleted += delete_rows(self._connection, table, [table.c[column].in_(ids)], limit - deleted)
        return deleted


def _row(deleted: Tombstone) -> tuple[Table, str]:
    """Return the table and the key of the marked row."""
    return (_PROJECTS, deleted.project) if deleted.job is None else (_JOBS, deleted.job)
