"""Repositories of one project, of all projects, and of what platform admins read, on one connection."""

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from sqlmodel import SQLModel

from windlass.db import cluster_tables as c
from windlass.db import identity_tables as i
from windlass.db import metering_tables as m
from windlass.db import protection_tables as p
from windlass.db import tables as t
from windlass.db.job_telemetry import SqlJobTelemetry
from windlass.db.repository import SqlRepository, table_of
from windlass.db.row_scope import ScopedConnection, Setting
from windlass.domain.budgets import BudgetAlert, ProjectBudget
from windlass.domain.cluster_sync import QuotaChange
from windlass.domain.datasets import Dataset, DatasetVersion, Upload
from windlass.domain.encryption import DataKey
from windlass.domain.endpoints import Endpoint
from windlass.domain.erasures import Erasure
from windlass.domain.gpu_reservations import GpuReservation
from windlass.domain.identity import ServiceAccount
from windlass.domain.jobs import Attempt, Job, Run
from windlass.domain.models import Model, ModelVersion
from windlass.domain.projects import Member, QueueTimeSample, StoredQuota
from windlass.domain.records import CascadeDeletion, Checkpoint, IdempotencyRecord, LineageEdge
from windlass.domain.usage import GpuUsage
from windlass.ports import Changes, JobTelemetryStore, ReadRepository, Repository
from windlass.ports import filters as f

M = TypeVar("M", bound=BaseModel)
F_contra = TypeVar("F_contra", bound=Mapping[str, object], contravariant=True)


class RepositoryScope(Protocol):
    """What an object gives to its repositories."""

    @property
    def connection(self) -> ScopedConnection:
        """Executes the statements."""
        ...

    @property
    def changes(self) -> Changes:
        """Records what they write."""
        ...

    @property
    def scope(self) -> Mapping[str, Any]:
        """Values that every row has."""
        ...


class _DeclaredRows(Generic[M, F_contra]):
    """Declares an attribute that is a repository, created when it is first read: a request uses few of forty."""

    def __init__(
        self,
        table: type[SQLModel],
        kind: type[M],
        noun: str,
        *,
        lookups: Mapping[str, Setting] | None = None,
        **scope: Any,
    ) -> None:
        """Declare a repository; the arguments are those of ``SqlRepository``, and ``scope`` is further scope."""
        self._table, self._kind, self._noun = table_of(table), kind, noun
        self._lookups, self._scope = lookups, scope

    def __set_name__(self, owner: type, name: str) -> None:
        """Store the name of the attribute."""
        self._name = name

    def _create(self, host: RepositoryScope) -> SqlRepository[M, F_contra]:
        """Create the repository, and store it as an attribute of the object."""
        repository: SqlRepository[M, F_contra] = SqlRepository(
            host.connection,
            self._table,
            self._kind,
            self._noun,
            host.changes,
            scope={**host.scope, **self._scope},
            lookups=self._lookups,
        )
        vars(host)[self._name] = repository
        return repository


class Rows(_DeclaredRows[M, F_contra]):
    """Declares a repository."""

    def __get__(self, host: RepositoryScope, owner: type) -> Repository[M, F_contra]:
        """Return the repository of the object."""
        return self._create(host)


class ReadRows(_DeclaredRows[M, F_contra]):
    """Declares a repository that is only read."""

    def __get__(self, host: RepositoryScope, owner: type) -> ReadRepository[M, F_contra]:
        """Return the repository of the object."""
        return self._create(host)


class SqlAllProjectsData:
    """``ports.AllProjectsData`` on one connection."""

    members = Rows[Member, f.MemberFilter](i.MemberTable, Member, "member")
    service_accounts = Rows[ServiceAccount, f.ServiceAccountFilter](
        i.ServiceAccountTable, ServiceAccount, "service account"
    )
    quotas = Rows[StoredQuota, f.QuotaFilter](t.QuotaTable, StoredQuota, "quota")
    quota_changes = Rows[QuotaChange, f.QuotaChangeFilter](c.QuotaChangeTable, QuotaChange, "quota change")
    queue_times = Rows[QueueTimeSample, f.QueueTimeFilter](t.QueueTimeSampleTable, QueueTimeSample, "queue time sample")
    datasets = Rows[Dataset, f.DatasetFilter](t.DatasetTable, Dataset, "dataset")
    dataset_versions = Rows[DatasetVersion, f.DatasetVersionFilter](
        t.DatasetVersionTable, DatasetVersion, "dataset version"
    )
    uploads = Rows[Upload, f.UploadFilter](t.UploadTable, Upload, "upload")
    jobs = Rows[Job, f.JobFilter](t.JobTable, Job, "job", deleted_at=None)
    runs = Rows[Run, f.RunFilter](t.RunTable, Run, "run")
    gpu_reservations = Rows[GpuReservation, f.GpuReservationFilter](
        m.GpuReservationTable, GpuReservation, "GPU reservation"
    )
    gpu_usage = Rows[GpuUsage, f.GpuUsageFilter](m.GpuUsageTable, GpuUsage, "GPU usage")
    budgets = Rows[ProjectBudget, f.BudgetFilter](m.BudgetTable, ProjectBudget, "budget")
    budget_alerts = Rows[BudgetAlert, f.BudgetAlertFilter](m.BudgetAlertTable, BudgetAlert, "budget alert")
    attempts = Rows[Attempt, f.AttemptFilter](m.AttemptTable, Attempt, "attempt")
    checkpoints = Rows[Checkpoint, f.CheckpointFilter](t.CheckpointTable, Checkpoint, "checkpoint")
    models = Rows[Model, f.ModelFilter](t.ModelTable, Model, "model")
    model_versions = Rows[ModelVersion, f.ModelVersionFilter](t.ModelVersionTable, ModelVersion, "model version")
    endpoints = Rows[Endpoint, f.EndpointFilter](t.EndpointTable, Endpoint, "endpoint")
    lineage = Rows[LineageEdge, f.LineageFilter](t.LineageTable, LineageEdge, "lineage edge")
    idempotency_records = Rows[IdempotencyRecord, f.IdempotencyFilter](
        t.IdempotencyRecordTable, IdempotencyRecord, "idempotency record"
    )
    data_keys = Rows[DataKey, f.DataKeyFilter](p.DataKeyTable, DataKey, "data key")
    cascade_deletions = Rows[CascadeDeletion, f.CascadeDeletionFilter](
        p.CascadeDeletionTable, CascadeDeletion, "deletion"
    )
    erasures = Rows[Erasure, f.ErasureFilter](p.ErasureTable, Erasure, "erasure")

    def __init__(self, connection: ScopedConnection, changes: Changes) -> None:
        self.connection = connection
        self.changes = changes
        self.scope: Mapping[str, Any] = {}
        self.telemetry: JobTelemetryStore = SqlJobTelemetry(connection, None)


class SqlProjectData(SqlAllProjectsData):
    """``ports.ProjectData`` on one connection."""

    def __init__(self, connection: ScopedConnection, changes: Changes, project: str) -> None:
        super().__init__(connection.narrowed({Setting.PROJECT: project}), changes)
        self.project = project
        self.scope = {"project": project}
        self.telemetry = SqlJobTelemetry(self.connection, project)


class SqlPlatformData:
    """``ports.PlatformData`` on one connection."""

    attempts = ReadRows[Attempt, f.AttemptFilter](m.AttemptTable, Attempt, "attempt")
    gpu_reservations = ReadRows[GpuReservation, f.GpuReservationFilter](
        m.GpuReservationTable, GpuReservation, "GPU reservation"
    )
    gpu_usage = ReadRows[GpuUsage, f.GpuUsageFilter](m.GpuUsageTable, GpuUsage, "GPU usage")
    budgets = ReadRows[ProjectBudget, f.BudgetFilter](m.BudgetTable, ProjectBudget, "budget")
    quotas = ReadRows[StoredQuota, f.QuotaFilter](t.QuotaTable, StoredQuota, "quota")
    quota_changes = ReadRows[QuotaChange, f.QuotaChangeFilter](c.QuotaChangeTable, QuotaChange, "quota change")
    queue_times = ReadRows[QueueTimeSample, f.QueueTimeFilter](
        t.QueueTimeSampleTable, QueueTimeSample, "queue time sample"
    )

    def __init__(self, connection: ScopedConnection, changes: Changes) -> None:
        self.connection = connection.narrowed({Setting.PLATFORM: "on"})
        self.changes = changes
        self.scope: Mapping[str, Any] = {}

    def jobs_from(self, base_model: str) -> ReadRepository[Job, f.JobFilter]:
        self.connection.narrowed({Setting.FIND_BASE_MODEL: base_model})
        scope = {"deleted_at": None, "base_model": base_model}
        return SqlRepository(self.connection, table_of(t.JobTable), Job, "job", self.changes, scope=scope)
