"""Clock and database."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pydantic import BaseModel

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
from windlass.domain.records import (
    CascadeDeletion,
    Checkpoint,
    IdempotencyRecord,
    LineageEdge,
)
from windlass.domain.usage import GpuUsage, PoolPrice
from windlass.ports import filters as f
from windlass.ports.repositories import (
    AdmissionStore,
    AuditChain,
    EndpointTrafficStore,
    JobTelemetryStore,
    Outbox,
    ReadAdmissionStore,
    ReadAuditChain,
    ReadEndpointTrafficStore,
    ReadJobTelemetryStore,
    ReadOutbox,
    ReadRepository,
    ReadRequestLoadStore,
    ReadRequestUsageStore,
    ReadTombstoneStore,
    Repository,
    RequestLoadStore,
    RequestUsageStore,
    TombstoneStore,
    UptimeStore,
)


class Clock(Protocol):
    """Source of the current time; tests replace it."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC: for display and for the calendar, never for a lease."""
        ...

    def monotonic(self) -> float:
        """Return the seconds since boot: for leases and timeouts. It never jumps, and it runs in suspend."""
        ...


class ReadUsageData(Protocol):
    """What the usage of GPUs is computed from."""

    attempts: ReadRepository[Attempt, f.AttemptFilter]
    gpu_reservations: ReadRepository[GpuReservation, f.GpuReservationFilter]
    gpu_usage: ReadRepository[GpuUsage, f.GpuUsageFilter]


class ReadAllProjectsData(ReadUsageData, Protocol):
    """The repositories of all projects in a read transaction: for the worker, never for a request of a tenant."""

    members: ReadRepository[Member, f.MemberFilter]
    service_accounts: ReadRepository[ServiceAccount, f.ServiceAccountFilter]
    quotas: ReadRepository[StoredQuota, f.QuotaFilter]
    quota_changes: ReadRepository[QuotaChange, f.QuotaChangeFilter]
    queue_times: ReadRepository[QueueTimeSample, f.QueueTimeFilter]
    datasets: ReadRepository[Dataset, f.DatasetFilter]
    dataset_versions: ReadRepository[DatasetVersion, f.DatasetVersionFilter]
    uploads: ReadRepository[Upload, f.UploadFilter]
    jobs: ReadRepository[Job, f.JobFilter]
    runs: ReadRepository[Run, f.RunFilter]
    gpu_reservations: ReadRepository[GpuReservation, f.GpuReservationFilter]
    gpu_usage: ReadRepository[GpuUsage, f.GpuUsageFilter]
    budgets: ReadRepository[ProjectBudget, f.BudgetFilter]
    budget_alerts: ReadRepository[BudgetAlert, f.BudgetAlertFilter]
    attempts: ReadRepository[Attempt, f.AttemptFilter]
    checkpoints: ReadRepository[Checkpoint, f.CheckpointFilter]
    models: ReadRepository[Model, f.ModelFilter]
    model_versions: ReadRepository[ModelVersion, f.ModelVersionFilter]
    endpoints: ReadRepository[Endpoint, f.EndpointFilter]
    lineage: ReadRepository[LineageEdge, f.LineageFilter]
    idempotency_records: ReadRepository[IdempotencyRecord, f.IdempotencyFilter]
    data_keys: ReadRepository[DataKey, f.DataKeyFilter]
    cascade_deletions: ReadRepository[CascadeDeletion, f.CascadeDeletionFilter]
    erasures: ReadRepository[Erasure, f.ErasureFilter]
    telemetry: ReadJobTelemetryStore


class ReadProjectData(ReadAllProjectsData, Protocol):
    """The repositories of one project in a read transaction."""

    project: str
    """Its uid, which repositories of all projects do not have."""


class AllProjectsData(ReadAllProjectsData, Protocol):
    """The repositories of all projects in a write transaction."""

    members: Repository[Member, f.MemberFilter]
    service_accounts: Repository[ServiceAccount, f.ServiceAccountFilter]
    quotas: Repository[StoredQuota, f.QuotaFilter]
    quota_changes: Repository[QuotaChange, f.QuotaChangeFilter]
    queue_times: Repository[QueueTimeSample, f.QueueTimeFilter]
    datasets: Repository[Dataset, f.DatasetFilter]
    dataset_versions: Repository[DatasetVersion, f.DatasetVersionFilter]
    uploads: Repository[Upload, f.UploadFilter]
    jobs: Repository[Job, f.JobFilter]
    runs: Repository[Run, f.RunFilter]
    gpu_reservations: Repository[GpuReservation, f.GpuReservationFilter]
    gpu_usage: Repository[GpuUsage, f.GpuUsageFilter]
    budgets: Repository[ProjectBudget, f.BudgetFilter]
    budget_alerts: Repository[BudgetAlert, f.BudgetAlertFilter]
    attempts: Repository[Attempt, f.AttemptFilter]
    checkpoints: Repository[Checkpoint, f.CheckpointFilter]
    models: Repository[Model, f.ModelFilter]
    model_versions: Repository[ModelVersion, f.ModelVersionFilter]
    endpoints: Repository[Endpoint, f.EndpointFilter]
    lineage: Repository[LineageEdge, f.LineageFilter]
    idempotency_records: Repository[IdempotencyRecord, f.IdempotencyFilter]
    data_keys: Repository[DataKey, f.DataKeyFilter]
    cascade_deletions: Repository[CascadeDeletion, f.CascadeDeletionFilter]
    erasures: Repository[Erasure, f.ErasureFilter]
    telemetry: JobTelemetryStore


class ProjectData(AllProjectsData, ReadProjectData, Protocol):
    """The repositories of one project in a write transaction."""


class PlatformData(ReadUsageData, Protocol):
    """What platform admins read of all projects: ledger, usage, budgets, and which jobs use a base model."""

    budgets: ReadRepository[ProjectBudget, f.BudgetFilter]
    quotas: ReadRepository[StoredQuota, f.QuotaFilter]
    quota_changes: ReadRepository[QuotaChange, f.QuotaChangeFilter]
    queue_times: ReadRepository[QueueTimeSample, f.QueueTimeFilter]

    def jobs_from(self, base_model: str) -> ReadRepository[Job, f.JobFilter]:
        """Return the jobs that start from the base model with this id."""
        ...


@dataclass
class Changes:
    """What a transaction has written, by domain class."""

    saved: dict[type[BaseModel], list[BaseModel]] = field(default_factory=dict)
    """Added and replaced entities, in order. Intents of the outbox are not listed."""
    deleted: dict[type[BaseModel], list[Mapping[str, object]]] = field(default_factory=dict)
    """The conditions of deletions."""
    kinds: set[type[BaseModel]] = field(default_factory=set)
    """The classes of everything that was written."""

    def save(self, entity: BaseModel) -> None:
        """Record an added or replaced entity."""
        self.kinds.add(type(entity))
        self.saved.setdefault(type(entity), []).append(entity)

    def delete(self, kind: type[BaseModel], where: Mapping[str, object]) -> None:
        """Record a deletion."""
        self.kinds.add(kind)
        self.deleted.setdefault(kind, []).append(dict(where))


class CommitHook(Protocol):
    """Reacts to committed changes."""

    def prepare(self, uow: "UnitOfWork", changes: Changes) -> Callable[[], None] | None:
        """Inspect the changes of a transaction before its commit, and write in it if necessary.

        Returns what to call after the commit: in the order of the commits on SQLite, in any order on PostgreSQL.
        """
        ...


class ReadUnitOfWork(Protocol):
    """A read transaction."""

    projects: ReadRepository[Project, f.ProjectFilter]
    keys: ReadRepository[ApiKey, f.KeyFilter]
    users: ReadRepository[UserAccount, f.UserFilter]
    sessions: ReadRepository[UserSession, f.SessionFilter]
    pools: ReadRepository[Pool, f.PoolFilter]
    pool_prices: ReadRepository[PoolPrice, f.PoolPriceFilter]
    base_models: ReadRepository[CatalogueModel, f.BaseModelFilter]
    audit: ReadRepository[AuditEntry, f.AuditFilter]
    audit_chain: ReadAuditChain
    cluster_sync_status: ReadRepository[ClusterSyncStatus, f.ClusterSyncFilter]
    queue_quotas: ReadRepository[QueueQuota, f.QuotaFilter]
    """Quotas of the cluster's ClusterQueues."""
    demands: ReadRepository[StoredDemand, f.DemandFilter]
    """Demands of the cluster's Workloads."""
    outbox: ReadOutbox
    admission: ReadAdmissionStore
    request_loads: ReadRequestLoadStore
    request_usage: ReadRequestUsageStore
    endpoint_traffic: ReadEndpointTrafficStore
    tombstones: ReadTombstoneStore

    def project(self, project: str) -> ReadProjectData:
        """Return the repositories of the project with this uid; a caller has authorized its principal for it."""
        ...

    def memberships(self, user: str, groups: Collection[str] = ()) -> ReadRepository[Member, f.MemberFilter]:
        """Return the memberships of a user, and those of groups, in all projects.

        The rest of the transaction may read these projects, and read and write the user's own keys.
        """
        ...

    def platform(self) -> PlatformData:
        """Return what platform admins read of all projects.

        The rest of the transaction may read all projects and the audit log, and read and write all keys: call it only
        for a principal that was authorized for the platform.
        """
        ...

    def cohorts(self) -> dict[str, str | None]:
        """Return the cohort of every project by its name: an input of predictions, which no reply contains."""
        ...

    def find_run(self, run: str) -> Run | None:
        """Return the run with this id, of any project, for a process that has its token."""
        ...

    def find_run_of_warm_trainer(self, name: str) -> Run | None:
        """Return the run, of any project, that a warm trainer trains."""
        ...


class UnitOfWork(ReadUnitOfWork, Protocol):
    """A write transaction."""

    projects: Repository[Project, f.ProjectFilter]
    keys: Repository[ApiKey, f.KeyFilter]
    users: Repository[UserAccount, f.UserFilter]
    sessions: Repository[UserSession, f.SessionFilter]
    pools: Repository[Pool, f.PoolFilter]
    pool_prices: Repository[PoolPrice, f.PoolPriceFilter]
    base_models: Repository[CatalogueModel, f.BaseModelFilter]
    audit: Repository[AuditEntry, f.AuditFilter]
    cluster_sync_status: Repository[ClusterSyncStatus, f.ClusterSyncFilter]
    queue_quotas: Repository[QueueQuota, f.QuotaFilter]
    demands: Repository[StoredDemand, f.DemandFilter]
    outbox: Outbox
    admission: AdmissionStore
    request_loads: RequestLoadStore
    request_usage: RequestUsageStore
    endpoint_traffic: EndpointTrafficStore
    tombstones: TombstoneStore
    uptime: UptimeStore

    def project(self, project: str) -> ProjectData:
        """Return the repositories of the project with this uid; a caller has authorized its principal for it."""
        ...


class WorkerReadUnitOfWork(ReadUnitOfWork, Protocol):
    """A read transaction of the worker."""

    def all_projects(self) -> ReadAllProjectsData:
        """Return repositories over all projects."""
        ...


class WorkerUnitOfWork(UnitOfWork, WorkerReadUnitOfWork, Protocol):
    """A write transaction of the worker."""

    def all_projects(self) -> AllProjectsData:
        """Return repositories over all projects."""
        ...


class Database(Protocol):
    """Opens transactions. ``write`` commits on exit without an exception, otherwise rolls back."""

    def read(self) -> AbstractContextManager[ReadUnitOfWork]:
        """Begin a read-only transaction with a consistent snapshot."""
        ...

    def write(self, lock: str | None = None) -> AbstractContextManager[UnitOfWork]:
        """Begin a read-write transaction. Transactions are serializable: each sees and leaves what it would alone.

        SQLite lets one writer in at a time. PostgreSQL runs them at the same time, and refuses one of two whose result
        depends on their order; ``windlass.services.transactions`` repeats the operation. Writers with the same ``lock``
        wait for each other instead of conflicting. No result depends on the lock, which costs two short statements.

        Args:
            lock: the id of what many transactions change at the same time, such as a project or a run.

        Raises:
            TransactionConflictError: a concurrent transaction was committed first; nothing was written.
            StorageFullError: the disk is full; nothing was written.
            UnavailableError: the lock was held for longer than the database lets a statement wait.
        """
        ...

    def audit_chain(self) -> AbstractContextManager[AuditChain]:
        """Begin a transaction on the chain of the audit log, which commits on exit without an exception.

        It is not serializable: entries that concurrent transactions add are sealed later, and do not conflict with it.
        ``AuditChain.lock`` excludes other writers of the chain.
        """
        ...

    def add_commit_hook(self, hook: CommitHook) -> None:
        """Call ``hook`` for every write transaction of this process that changes entities."""
        ...

    def subscribe(
        self, kinds: Collection[type[BaseModel]], callback: Callable[[frozenset[type[BaseModel]]], None]
    ) -> None:
        """Call ``callback`` after a commit of this process that changes one of these classes, with those that changed.

        After ``listen``, also after a commit of another process. A commit may be missed, so subscribers also poll.
        """
        ...

    def listen(self) -> None:
        """Start to report the commits of other processes, until ``close``; no effect on a database of one process."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class WorkerDatabase(Database, Protocol):
    """The database as the worker uses it: its transactions reach the rows of all projects."""

    def read(self) -> AbstractContextManager[WorkerReadUnitOfWork]:
        """Begin a read-only transaction. As of ``Database``."""
        ...

    def write(self, lock: str | None = None) -> AbstractContextManager[WorkerUnitOfWork]:
        """Begin a read-write transaction. As of ``Database``."""
        ...
