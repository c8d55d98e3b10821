"""Transactions. On PostgreSQL, writers are serializable and readers have one snapshot; SQLite has one writer."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from windlass.db import audit_tables as a
from windlass.db import cluster_tables as c
from windlass.db import identity_tables as i
from windlass.db import tables as t
from windlass.db.admission import SqlAdmissionStore
from windlass.db.audit_chain import SqlAuditChain
from windlass.db.change_feed import change_feed
from windlass.db.errors import translate_errors
from windlass.db.job_telemetry import SqlJobTelemetry
from windlass.db.outbox import SqlOutbox
from windlass.db.repository import SqlRepository, table_of
from windlass.db.request_loads import SqlRequestLoadStore
from windlass.db.tombstones import SqlTombstoneStore
from windlass.db.uptime import SqlUptimeStore
from windlass.domain.audit import AuditEntry
from windlass.domain.cluster_sync import ClusterSyncStatus, QueueQuota, QuotaChange, StoredDemand
from windlass.domain.datasets import Dataset, DatasetVersion, Upload
from windlass.domain.endpoints import Endpoint
from windlass.domain.gpu_reservations import GpuReservation
from windlass.domain.identity import ServiceAccount, UserAccount, UserSession
from windlass.domain.jobs import Attempt, Job, Run
from windlass.domain.models import CatalogueModel, Model, ModelVersion
from windlass.domain.projects import ApiKey, Member, Pool, Project, QueueTimeSample, StoredQuota
from windlass.domain.records import Checkpoint, IdempotencyRecord, LineageEdge
from windlass.kit.fair_lock import FairLock
from windlass.ports import (
    AdmissionStore,
    AuditChain,
    Changes,
    Clock,
    CommitHook,
    JobTelemetryStore,
    Outbox,
    ProjectData,
    ReadAuditChain,
    ReadUnitOfWork,
    Repository,
    RequestLoadStore,
    TombstoneStore,
    UnitOfWork,
    UptimeStore,
)
from windlass.ports import filters as f

_READ_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"writes": False},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}
_WRITE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"writes": True},
    "postgresql": {"isolation_level": "SERIALIZABLE"},
}
_CHAIN_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"writes": True},
    "postgresql": {"isolation_level": "READ COMMITTED"},
}


class SqlProjectData:
    """``ports.ProjectData`` on one connection; ``project`` None means all projects."""

    def __init__(self, connection: Connection, changes: Changes, project: str | None) -> None:
        scope = {} if project is None else {"project": project}

        def rows(table: Any, kind: Any, noun: str, **more: Any) -> SqlRepository[Any, Any]:
            return SqlRepository(connection, table_of(table), kind, noun, changes, {**scope, **more})

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
            c.GpuReservationTable, GpuReservation, "GPU reservation"
        )
        self.attempts: Repository[Attempt, f.AttemptFilter] = rows(t.AttemptTable, Attempt, "attempt")
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
        self.telemetry: JobTelemetryStore = SqlJobTelemetry(connection, project)


class SqlUnitOfWork:
    """``ports.UnitOfWork`` on one connection."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self.changes = Changes()

        def rows(table: Any, kind: Any, noun: str, **scope: Any) -> SqlRepository[Any, Any]:
            return SqlRepository(connection, table_of(table), kind, noun, self.changes, scope)

        self.projects: Repository[Project, f.ProjectFilter] = rows(t.ProjectTable, Project, "project", deleted_at=None)
        self.keys: Repository[ApiKey, f.KeyFilter] = rows(i.ApiKeyTable, ApiKey, "key")
        self.users: Repository[UserAccount, f.UserFilter] = rows(i.UserAccountTable, UserAccount, "user")
        self.sessions: Repository[UserSession, f.SessionFilter] = rows(i.UserSessionTable, UserSession, "session")
        self.pools: Repository[Pool, f.PoolFilter] = rows(t.PoolTable, Pool, "pool")
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
        self.uptime: UptimeStore = SqlUptimeStore(connection)

    def project(self, project: str) -> ProjectData:
        return SqlProjectData(self._connection, self.changes, project)

    def all_projects(self) -> ProjectData:
        return SqlProjectData(self._connection, self.changes, None)


class SqlDatabase:
    """``ports.Database`` over one engine."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**_READ_OPTIONS[engine.dialect.name])
        self._writer = engine.execution_options(**_WRITE_OPTIONS[engine.dialect.name])
        self._chain_writer = engine.execution_options(**_CHAIN_OPTIONS[engine.dialect.name])
        self._clock = clock
        self._hooks: list[CommitHook] = []
        self._feed = change_feed(engine)
        # SQLite has one writer, and its busy handler is not fair: writers of this process wait for this lock instead.
        self._write_lock: Any = FairLock() if engine.dialect.name == "sqlite" else nullcontext()

    @contextmanager
    def read(self) -> Iterator[ReadUnitOfWork]:
        with translate_errors(), self._reader.connect() as connection:
            uow: UnitOfWork = SqlUnitOfWork(connection, self._clock)
            yield uow

    @contextmanager
    def write(self) -> Iterator[UnitOfWork]:
        with self._write_lock, translate_errors(), self._writer.connect() as connection:
            uow = SqlUnitOfWork(connection, self._clock)
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
        with self._write_lock, translate_errors(), self._chain_writer.connect() as connection:
            yield SqlAuditChain(connection)
            connection.commit()  # as in ``write``

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
