"""The inputs of the scheduler as narrow rows: 10,000 queued jobs are read without their specs."""

from sqlalchemy import func, select

from windlass.db.dialect import insert_or_update
from windlass.db.repository import table_of, to_model
from windlass.db.row_scope import ScopedConnection
from windlass.db.tables import JobTable, QuotaTable, RunTable
from windlass.db.worker_tables import AdmissionSequenceTable
from windlass.domain.admission import GpuAllocation, GpuRequest
from windlass.domain.jobs import UNFINISHED_STATES, JobState
from windlass.domain.projects import StoredQuota

_SEQUENCE, _JOBS, _RUNS, _QUOTAS = (table_of(kind) for kind in (AdmissionSequenceTable, JobTable, RunTable, QuotaTable))
_ONLY_ROW = 1


class SqlAdmissionStore:
    """``ports.AdmissionStore`` on one connection."""

    def __init__(self, connection: ScopedConnection) -> None:
        self._connection = connection

    def sequence(self) -> int:
        return self._connection.scalar(select(_SEQUENCE.c.value).where(_SEQUENCE.c.id == _ONLY_ROW)) or 0

    def advance(self) -> int:
        first = insert_or_update(self._connection.dialect.name, _SEQUENCE).values(id=_ONLY_ROW, value=1)
        upsert = first.on_conflict_do_update(index_elements=[_SEQUENCE.c.id], set_={"value": _SEQUENCE.c.value + 1})
        value: int = self._connection.execute(upsert.returning(_SEQUENCE.c.value)).scalar_one()
        return value

    def requests(self) -> list[GpuRequest]:
        resources = _JOBS.c.spec["resources"]
        query = select(
            _JOBS.c.id.label("job"),
            _JOBS.c.project,
            resources["pool"].as_string().label("pool"),
            (resources["workers"].as_integer() * resources["gpus_per_worker"].as_integer()).label("gpus"),
            _JOBS.c.spec["priority"].as_integer().label("priority"),
            func.coalesce(_JOBS.c.queued_at, _JOBS.c.created_at, type_=_JOBS.c.created_at.type).label("queued_at"),
            (_JOBS.c.state == JobState.QUEUED.value).label("waiting"),
        ).where(_JOBS.c.state.in_([state.value for state in UNFINISHED_STATES]))
        return [GpuRequest.model_validate(dict(row)) for row in self._connection.execute(query).mappings()]

    def quotas(self) -> list[StoredQuota]:
        query = select(_QUOTAS).order_by(_QUOTAS.c.project, _QUOTAS.c.pool)
        return [to_model(StoredQuota, row) for row in self._connection.execute(query).mappings()]

    def allocations(self) -> list[GpuAllocation]:
        query = select(
            _RUNS.c.id.label("run"),
            _RUNS.c.job,
            _RUNS.c.created_at.label("admitted_at"),
            _RUNS.c.stop.is_not(None).label("terminating"),
        ).where(_RUNS.c.ended_at.is_(None))
        return [GpuAllocation.model_validate(dict(row)) for row in self._connection.execute(query).mappings()]
