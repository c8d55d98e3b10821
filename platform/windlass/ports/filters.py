"""Filters of the repositories: by field, a value that must be equal, or a collection of which any value may be equal.

A filter lists the fields that queries use. ``mypy`` checks the names and the types of its values.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypedDict, TypeVar

from windlass.domain.audit import AuditOutcome
from windlass.domain.cluster_sync import ChangeState
from windlass.domain.datasets import UploadState, VersionState
from windlass.domain.endpoints import EndpointState
from windlass.domain.erasures import ErasureState
from windlass.domain.jobs import AttemptState, JobState, RunState
from windlass.domain.models import BaseModelState
from windlass.domain.projects import PlatformRole, SubjectKind
from windlass.domain.usage import ReservationKind

V = TypeVar("V")
AnyOf: TypeAlias = V | Collection[V]
"""One value, or any of several."""


@dataclass(frozen=True)
class ValueRange(Generic[V]):
    """The values from ``first`` on and before ``end``; None: unlimited."""

    first: V | None = None
    end: V | None = None


class ProjectFilter(TypedDict, total=False):
    """Fields of projects."""

    id: AnyOf[str]
    name: AnyOf[str]


class KeyFilter(TypedDict, total=False):
    """Fields of API keys."""

    id: AnyOf[str]
    user: AnyOf[str]
    platform_role: AnyOf[PlatformRole | None]
    service_account: AnyOf[str]
    project: AnyOf[str]
    revoked_at: datetime | None
    expires_at: datetime | None


class PoolFilter(TypedDict, total=False):
    """Fields of pools."""

    id: AnyOf[str]
    name: AnyOf[str]


class BaseModelFilter(TypedDict, total=False):
    """Fields of base models."""

    id: AnyOf[str]
    name: AnyOf[str]
    state: AnyOf[BaseModelState]


class AuditFilter(TypedDict, total=False):
    """Fields of audit entries."""

    project: AnyOf[str]
    actor: AnyOf[str]
    key: AnyOf[str]
    action: AnyOf[str]
    outcome: AuditOutcome
    request_id: str
    id: ValueRange[str]
    time: ValueRange[datetime]


class ClusterSyncFilter(TypedDict, total=False):
    """Fields of the status of the cluster sync."""

    name: str
    holder: str
    version: int


class DemandFilter(TypedDict, total=False):
    """Fields of resource demands."""

    job: AnyOf[str]


class UserFilter(TypedDict, total=False):
    """Fields of users."""

    name: AnyOf[str]
    issuer: str
    subject: str


class SessionFilter(TypedDict, total=False):
    """Fields of sessions."""

    id: AnyOf[str]
    user: str
    ended_at: datetime | None
    expires_at: datetime


class ServiceAccountFilter(TypedDict, total=False):
    """Fields of service accounts."""

    id: AnyOf[str]
    name: str


class MemberFilter(TypedDict, total=False):
    """Fields of members."""

    project: AnyOf[str]
    kind: SubjectKind
    name: AnyOf[str]


class QuotaFilter(TypedDict, total=False):
    """Fields of quotas."""

    project: AnyOf[str]
    pool: AnyOf[str]


class QuotaChangeFilter(TypedDict, total=False):
    """Fields of quota changes."""

    id: AnyOf[str]
    state: AnyOf[ChangeState]
    ended_at: datetime | None


class QueueTimeFilter(TypedDict, total=False):
    """Fields of queue time samples."""

    pool: AnyOf[str]
    subject: AnyOf[str]
    admitted_at: datetime


class DatasetFilter(TypedDict, total=False):
    """Fields of datasets."""

    id: AnyOf[str]
    name: AnyOf[str]


class DatasetVersionFilter(TypedDict, total=False):
    """Fields of dataset versions."""

    id: AnyOf[str]
    dataset: AnyOf[str]
    number: int
    parent: AnyOf[str]
    state: AnyOf[VersionState]


class UploadFilter(TypedDict, total=False):
    """Fields of uploads."""

    id: AnyOf[str]
    dataset: AnyOf[str]
    state: AnyOf[UploadState]


class JobFilter(TypedDict, total=False):
    """Fields of jobs."""

    id: AnyOf[str]
    name: str
    state: AnyOf[JobState]
    dataset_version: AnyOf[str]
    base_model: AnyOf[str]
    finished_at: datetime | None
    cleaned_up_at: datetime | None
    history_deleted_at: datetime | None


class RunFilter(TypedDict, total=False):
    """Fields of runs."""

    id: AnyOf[str]
    job: AnyOf[str]
    name: AnyOf[str]
    state: AnyOf[RunState]
    warm_trainer: AnyOf[str]
    ended_at: datetime | None


class GpuReservationFilter(TypedDict, total=False):
    """Fields of GPU reservations."""

    holder: AnyOf[str]
    job: AnyOf[str]
    reserved_at: datetime
    released_at: None
    settlement: None


class GpuUsageFilter(TypedDict, total=False):
    """Fields of the sums of GPU usage."""

    month: AnyOf[str]
    project: AnyOf[str]
    pool: str
    kind: ReservationKind
    api_key: str
    model: str
    endpoint: str


class PoolPriceFilter(TypedDict, total=False):
    """Fields of the prices of pools."""

    pool: AnyOf[str]


class BudgetFilter(TypedDict, total=False):
    """Fields of budgets."""

    project: AnyOf[str]


class BudgetAlertFilter(TypedDict, total=False):
    """Fields of budget alerts."""

    project: AnyOf[str]
    month: AnyOf[str]
    percent: AnyOf[int]


class AttemptFilter(TypedDict, total=False):
    """Fields of attempts."""

    job: AnyOf[str]
    number: int
    run: AnyOf[str]
    state: AnyOf[AttemptState]


class CheckpointFilter(TypedDict, total=False):
    """Fields of checkpoints."""

    job: AnyOf[str]
    step: int
    attempt: int


class ModelFilter(TypedDict, total=False):
    """Fields of models."""

    id: AnyOf[str]
    name: AnyOf[str]


class ModelVersionFilter(TypedDict, total=False):
    """Fields of model versions."""

    id: AnyOf[str]
    model: AnyOf[str]
    number: int
    job: AnyOf[str]
    dataset_version: AnyOf[str]


class EndpointFilter(TypedDict, total=False):
    """Fields of endpoints."""

    id: AnyOf[str]
    name: AnyOf[str]
    state: AnyOf[EndpointState]


class LineageFilter(TypedDict, total=False):
    """Fields of lineage edges."""

    subject: AnyOf[str]
    object: AnyOf[str]


class DataKeyFilter(TypedDict, total=False):
    """Fields of data keys."""

    master_key: AnyOf[str]


class CascadeDeletionFilter(TypedDict, total=False):
    """Fields of cascading deletions."""

    id: AnyOf[str]
    kind: str
    subject: AnyOf[str]


class ErasureFilter(TypedDict, total=False):
    """Fields of erasures."""

    id: AnyOf[str]
    dataset: AnyOf[str]
    state: AnyOf[ErasureState]


class IdempotencyFilter(TypedDict, total=False):
    """Fields of idempotency records."""

    route: str
    key: str
    created_at: datetime
