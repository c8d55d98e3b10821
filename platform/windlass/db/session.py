"""Transactions. On PostgreSQL, writers are serializable and readers have one snapshot; SQLite has one writer."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from windlass.db import audit_tables as a
from windlass.db import cluster_tables as c
from windlass.db import identity_tables as i
from windlass.db import metering_tables as m
from windlass.db import protection_tables as p
from windlass.db import tables as t
from windlass.db.admission import SqlAdmissionStore
from windlass.db.audit_chain import SqlAuditChain
from windlass.db.change_feed import change_feed
from windlass.db.endpoint_traffic import SqlEndpointTrafficStore
from windlass.db.errors import translate_errors
from windlass.db.job_telemetry import SqlJobTelemetry
from windlass.db.lookups import SqlMemberships, SqlRunLookup, read_cohorts
from windlass.db.outbox import SqlOutbox
from windlass.db.repository import SqlRepository, table_of
from windlass.db.request_loads import SqlRequestLoadStore
from windlass.db.request_usage import SqlRequestUsageStore
from windlass.db.row_scope import RowScope, ScopedConnection, Setting, in_scope
from windlass.db.tombstones import SqlTombstoneStore
from windlass.db.uptime import SqlUptimeStore
from windlass.domain.audit import AuditEntry
from windlass.domain.budgets import BudgetAlert, ProjectBudget
from windlass.domain.cluster_sync import ClusterSyncStatus, QueueQuota, QuotaChange, StoredDemand
from windlass.domain.datasets import Dataset, DatasetVersion, Upload
from windlass.domain.encryption import DataKey
from windlass.domain.endpoints import Endpoint
from windlass.domain.erasures import Erasure
from windlass.domain.gpu_reservations import GpuReservation
from windlass.domain.identity import ServiceAccount, UserAccount, UserSession
from windlass.domain.jobs import Attempt, Job, Run
from windlass.domain.models import CatalogueModel, Model, ModelVersion
from windlass.domain.projects import ApiKey, Member, Pool, Project, QueueTimeSample, StoredQuota
from windlass.domain.records import CascadeDeletion, Checkpoint, IdempotencyRecord, LineageEdge
from windlass.domain.usage import GpuUsage, PoolPrice
from windlass.kit.fair_lock import FairLock
from windlass.ports import (
    AdmissionStore,
    AllProjectsData,
    AuditChain,
    Changes,
    Clock,
    CommitHook,
    EndpointTrafficStore,
    JobTelemetryStore,
    Outbox,
    PlatformData,
    ProjectData,
    ReadAuditChain,
    ReadRepository,
    Repository,
    RequestLoadStore,
    RequestUsageStore,
    TombstoneStore,
    UptimeStore,
    WorkerReadUnitOfWork,
    WorkerUnitOfWork,
)
from windlass.ports import filters as f

_READ_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"writes": False},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},  # of the driver: ``begin_in_scope`` begins the transactions
}
_WRITE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"writes": True},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},
}
_BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITE: Final = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"
_BEGIN_SEAL: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
"""A serializable sealer of audit entries could make the transactions that write them fail."""


class SqlAllProjectsData:
    """``ports.AllProjectsData`` on one connection."""

    def __init__(self, connection: ScopedConnection, changes: Changes) -> None:
        self._create(connection, changes, None)

    def _create(self, connection: ScopedConnection, changes: Changes, project: str | None) -> None:
        """Create the repositories of a project, or of all of them (None)."""
        scope = {} if project is None else {"project": project}

        def rows(table: Any, kind: Any, noun: str, **more: Any) -> SqlRepository[Any, Any]:
            return SqlRepository(connection, table_of(table), kind, noun, changes, scope={**scope, **more})

        self.members: Repository[Member, f.MemberFilter] = rows(i.MemberTable, Member, "member")
        self.service_accounts: Repository[ServiceAccount, f.ServiceAccountFilter] = rows(
            i.ServiceAccountTable, ServiceAccount, "service account"
        )
        self.quotas: Repository[StoredQuota, f.QuotaFilter] = rows(t.QuotaTable, StoredQuota, "quota")
        self.quota_changes: Repository[QuotaChange, f.QuotaChangeFilter] = rows(
            c.QuotaChangeTable, QuotaChange, "quota change"
        )
        self.queue_times: Repository[QueueTimeSample, f.QueueTimeFilter] = rows(
            t.QueueTimeSampleTable, QueueTimeSample, "queue time sample"
        )
        self.datasets: Repository[Dataset, f.DatasetFilter] = rows(t.DatasetTable, Dataset, "dataset")
        self.dataset_versions: Repository[DatasetVersion, f.DatasetVersionFilter] = rows(
            t.DatasetVersionTable, DatasetVersion, "dataset version"
        )
        self.uploads: Repository[Upload, f.UploadFilter] = rows(t.UploadTable, Upload, "upload")
        self.jobs: Repository[Job, f.JobFilter] = rows(t.JobTable, Job, "job", deleted_at=None)
        self.runs: Repository[Run, f.RunFilter] = rows(t.RunTable, Run, "run")
        self.gpu_reservations: Repository[GpuReservation, f.GpuReservationFilter] = rows(
            m.GpuReservationTable, GpuReservation, "GPU reservation"
        )
        self.gpu_usage: Repository[GpuUsage, f.GpuUsageFilter] = rows(m.GpuUsageTable, GpuUsage, "GPU usage")
        self.budgets: Repository[ProjectBudget, f.BudgetFilter] = rows(m.BudgetTable, ProjectBudget, "budget")
        self.budget_alerts: Repository[BudgetAlert, f.BudgetAlertFilter] = rows(
            m.BudgetAlertTable, BudgetAlert, "budget alert"
        )
        self.attempts: Repository[Attempt, f.AttemptFilter] = rows(m.AttemptTable, Attempt, "attempt")
        self.checkpoints: Repository[Checkpoint, f.CheckpointFilter] = rows(t.CheckpointTable, Checkpoint, "checkpoint")
        self.models: Repository[Model, f.ModelFilter] = rows(t.ModelTable, Model, "model")
        self.model_versions: Repository[ModelVersion, f.ModelVersionFilter] = rows(
            t.ModelVersionTable, ModelVersion, "model version"
        )
        self.endpoints: Repository[Endpoint, f.EndpointFilter] = rows(t.EndpointTable, Endpoint, "endpoint")
        self.lineage: Repository[LineageEdge, f.LineageFilter] = rows(t.LineageTable, LineageEdge, "lineage edge")
        self.idempotency_records: Repository[IdempotencyRecord, f.IdempotencyFilter] = rows(
            t.IdempotencyRecordTable, IdempotencyRecord, "idempotency record"
        )
        self.data_keys: Repository[DataKey, f.DataKeyFilter] = rows(p.DataKeyTable, DataKey, "data key")
        self.cascade_deletions: Repository[CascadeDeletion, f.CascadeDeletionFilter] = rows(
            p.CascadeDeletionTable, CascadeDeletion, "deletion"
        )
        self.erasures: Repository[Erasure, f.ErasureFilter] = rows(p.ErasureTable, Erasure, "erasure")
        self.telemetry: JobTelemetryStore = SqlJobTelemetry(connection, project)


class SqlProjectData(SqlAllProjectsData):
    """``ports.ProjectData`` on one connection."""

    def __init__(self, connection: ScopedConnection, changes: Changes, project: str) -> None:
        self.project = project
        self._create(connection.narrowed({Setting.PROJECT: project}), changes, project)


class SqlPlatformData:
    """``ports.PlatformData`` on one connection."""

    def __init__(self, connection: ScopedConnection, changes: Changes) -> None:
        self._connection = connection.narrowed({Setting.PLATFORM: "on"})
        self._changes = changes
        self.attempts: ReadRepository[Attempt, f.AttemptFilter] = self._rows(m.AttemptTable, Attempt, "attempt")
        self.gpu_reservations: ReadRepository[GpuReservation, f.GpuReservationFilter] = self._rows(
            m.GpuReservationTable, GpuReservation, "GPU reservation"
        )
        self.gpu_usage: ReadRepository[GpuUsage, f.GpuUsageFilter] = self._rows(m.GpuUsageTable, GpuUsage, "GPU usage")
        self.budgets: ReadRepository[ProjectBudget, f.BudgetFilter] = self._rows(m.BudgetTable, ProjectBudget, "budget")
        self.quotas: ReadRepository[StoredQuota, f.QuotaFilter] = self._rows(t.QuotaTable, StoredQuota, "quota")
        self.quota_changes: ReadRepository[QuotaChange, f.QuotaChangeFilter] = self._rows(
            c.QuotaChangeTable, QuotaChange, "quota change"
        )
        self.queue_times: ReadRepository[QueueTimeSample, f.QueueTimeFilter] = self._rows(
            t.QueueTimeSampleTable, QueueTimeSample, "queue time sample"
        )

    def _rows(self, table: Any, kind: Any, noun: str, **scope: Any) -> SqlRepository[Any, Any]:
        return SqlRepository(self._connection, table_of(table), kind, noun, self._changes, scope=scope)

    def jobs_from(self, base_model: str) -> ReadRepository[Job, f.JobFilter]:
        self._connection.narrowed({Setting.FIND_BASE_MODEL: base_model})
        return self._rows(t.JobTable, Job, "job", deleted_at=None, base_model=base_model)


class SqlUnitOfWork:
    """``ports.WorkerUnitOfWork`` on one connection."""

    def __init__(self, connection: ScopedConnection, clock: Clock) -> None:
        self._connection = connection
        self.changes = Changes()

        def rows(table: Any, kind: Any, noun: str, **scope: Any) -> SqlRepository[Any, Any]:
            return self._rows(table, kind, noun, scope)

        self.projects: Repository[Project, f.ProjectFilter] = self._rows(
            t.ProjectTable, Project, "project", {"deleted_at": None}, {"name": Setting.FIND_PROJECT}
        )
        self.keys: Repository[ApiKey, f.KeyFilter] = self._rows(
            i.ApiKeyTable, ApiKey, "key", {}, {"id": Setting.FIND_KEY}
        )
        self.users: Repository[UserAccount, f.UserFilter] = rows(i.UserAccountTable, UserAccount, "user")
        self.sessions: Repository[UserSession, f.SessionFilter] = rows(i.UserSessionTable, UserSession, "session")
        self.pools: Repository[Pool, f.PoolFilter] = rows(t.PoolTable, Pool, "pool")
        self.pool_prices: Repository[PoolPrice, f.PoolPriceFilter] = rows(m.PoolPriceTable, PoolPrice, "price")
        self.base_models: Repository[CatalogueModel, f.BaseModelFilter] = rows(
            t.BaseModelTable, CatalogueModel, "base model"
        )
        self.audit: Repository[AuditEntry, f.AuditFilter] = rows(a.AuditTable, AuditEntry, "audit entry")
        self.audit_chain: ReadAuditChain = SqlAuditChain(connection)
        self.cluster_sync_status: Repository[ClusterSyncStatus, f.ClusterSyncFilter] = rows(
            c.ClusterSyncStatusTable, ClusterSyncStatus, "cluster sync status"
        )
        self.queue_quotas: Repository[QueueQuota, f.QuotaFilter] = rows(c.QueueQuotaTable, QueueQuota, "queue's quota")
        self.demands: Repository[StoredDemand, f.DemandFilter] = rows(c.DemandTable, StoredDemand, "demand")
        self.admission: AdmissionStore = SqlAdmissionStore(connection)
        self.outbox: Outbox = SqlOutbox(connection, clock, self.changes)
        self.tombstones: TombstoneStore = SqlTombstoneStore(connection, self.changes)
        self.request_loads: RequestLoadStore = SqlRequestLoadStore(connection, self.changes)
        self.request_usage: RequestUsageStore = SqlRequestUsageStore(connection)
        self.endpoint_traffic: EndpointTrafficStore = SqlEndpointTrafficStore(connection)
        self.uptime: UptimeStore = SqlUptimeStore(connection)
        self._runs: ReadRepository[Run, f.RunFilter] = SqlRunLookup(connection, self.changes)

    def _rows(
        self,
        table: Any,
        kind: Any,
        noun: str,
        scope: Mapping[str, Any],
        lookups: Mapping[str, Setting] | None = None,
    ) -> SqlRepository[Any, Any]:
        return SqlRepository(self._connection, table_of(table), kind, noun, self.changes, scope=scope, lookups=lookups)

    def project(self, project: str) -> ProjectData:
        return SqlProjectData(self._connection, self.changes, project)

    def memberships(self, user: str, groups: Collection[str] = ()) -> ReadRepository[Member, f.MemberFilter]:
        return SqlMemberships(self._connection, self.changes, user, groups)

    def platform(self) -> PlatformData:
        return SqlPlatformData(self._connection, self.changes)

    def cohorts(self) -> dict[str, str | None]:
        return read_cohorts(self._connection)

    def find_run(self, run: str) -> Run | None:
        return self._runs.find({"id": run})

    def find_run_of_warm_trainer(self, name: str) -> Run | None:
        return self._runs.find({"warm_trainer": name})

    def all_projects(self) -> AllProjectsData:
        return SqlAllProjectsData(self._connection, self.changes)


class SqlDatabase:
    """``ports.WorkerDatabase`` over one engine."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**_READ_OPTIONS[engine.dialect.name])
        self._writer = engine.execution_options(**_WRITE_OPTIONS[engine.dialect.name])
        self._clock = clock
        self._hooks: list[CommitHook] = []
        self._feed = change_feed(engine)
        # SQLite has one writer, and its busy handler is not fair: writers of this process wait for this lock instead.
        self._write_lock: Any = FairLock() if engine.dialect.name == "sqlite" else nullcontext()

    @contextmanager
    def read(self) -> Iterator[WorkerReadUnitOfWork]:
        with translate_errors(), self._reader.connect() as connection:
            uow: WorkerUnitOfWork = SqlUnitOfWork(self._scoped(connection, _BEGIN_READ), self._clock)
            yield uow

    @contextmanager
    def write(self) -> Iterator[WorkerUnitOfWork]:
        with self._write_lock, translate_errors(), self._writer.connect() as connection:
            uow = SqlUnitOfWork(self._scoped(connection, _BEGIN_WRITE), self._clock)
            yield uow
            hooks = self._hooks if uow.changes.kinds else ()
            after_commit = [call for hook in hooks if (call := hook.prepare(uow, uow.changes))]
            self._feed.announce(connection, uow.changes.kinds)
            connection.commit()  # an exception in the block skips this, and closing rolls back
            for call in after_commit:  # under the lock, so in the order of the commits
                call()
            self._feed.committed(uow.changes.kinds)

    @contextmanager
    def audit_chain(self) -> Iterator[AuditChain]:
        with self._write_lock, translate_errors(), self._writer.connect() as connection:
            yield SqlAuditChain(self._scoped(connection, _BEGIN_SEAL))
            connection.commit()  # as in ``write``

    @staticmethod
    def _scoped(connection: Connection, begin: str) -> ScopedConnection:
        if connection.dialect.name == "sqlite":
            return ScopedConnection(connection, None)
        scope = RowScope(begin)
        return ScopedConnection(in_scope(connection, scope), scope)

    def add_commit_hook(self, hook: CommitHook) -> None:
        self._hooks.append(hook)

    def subscribe(
        self, kinds: Collection[type[BaseModel]], callback: Callable[[frozenset[type[BaseModel]]], None]
    ) -> None:
        self._feed.subscribe(kinds, callback)

    def listen(self) -> None:
        self._feed.listen()

    def close(self) -> None:
        """Close all connections."""
        self._feed.close()
        self._engine.dispose()
