"""Observed cluster state as domain objects, and quota changes to apply to the cluster.

In a cluster, custom resources own pools, projects and quotas. The database has a copy of them, so that the API reads
from one place in both modes, and stores accepted quota changes until they are applied (docs/adr/0021).
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from windlass.domain.ids import encode_id
from windlass.domain.jobs import DomainModel, Reason
from windlass.domain.projects import Member, Pool, Project, StoredQuota
from windlass.domain.quota import Quota, ResourceDemand, Snapshot


def id_of(kind: str, uid: str) -> str:
    """Return the id of the object with this Kubernetes uid; both encode the same 128 bits.

    Raises:
        ValueError: ``uid`` is not a UUID (RFC 4122).
    """
    bits = uuid.UUID(uid).int
    return encode_id(kind, bits >> 80, bits & (2**80 - 1))


class ProjectState(DomainModel):
    """A project with its members and quotas, as in its resource."""

    project: Project
    members: tuple[Member, ...] = ()
    quotas: tuple[StoredQuota, ...] = ()
    warm_trainers: Mapping[str, int] = Field(default_factory=dict)
    """How many warm trainers it keeps in each pool."""


class ObservedReservation(DomainModel):
    """What the Workload of a job or model server shows of its quota: when it was reserved, and when it was released.

    A Workload that was evicted shows only when it released the last one.
    """

    workload: str
    """Uid of the Workload."""
    job: str
    """Id of the job, name of the warm trainer, or key of the model server (``domain.served_gpus``)."""
    project: str = ""
    """Uid of the project of a warm trainer."""
    app: str = ""
    """Key of the application of a model server; empty until it is known."""
    namespace_project: str = ""
    """Uid of the project in whose namespace a model server runs."""
    pool: str = ""
    gpus: int = 0
    reserved_at: datetime | None = None
    released_at: datetime | None = None


class ObservedClusterState(DomainModel):
    """One state of the cluster. The snapshot includes queues not created by Windlass, as ``queue:NAME``."""

    pools: tuple[Pool, ...] = ()
    projects: tuple[ProjectState, ...] = ()
    snapshot: Snapshot = Snapshot(pools=())
    reasons: Mapping[str, Reason] = Field(default_factory=dict)
    """Why a job does not run, by the demand's ``job``."""
    reservations: tuple[ObservedReservation, ...] = ()
    """Of the Workloads of jobs and model servers that hold quota, or held some."""
    notes: tuple[str, ...] = ()
    """Settings of the cluster that the scheduler does not model, so that predictions may be wrong."""


class QuotaSpec(DomainModel):
    """The desired quota of a project in a pool, in GPUs; a limit of None is unlimited."""

    nominal: int = Field(ge=0)
    borrowing_limit: int | None = Field(default=None, ge=0)
    lending_limit: int | None = Field(default=None, ge=0)


class QueueQuota(Quota):
    """The quota of a ClusterQueue, which may lag behind the desired one; also of queues without a project."""

    cohort: str | None = None


class StoredDemand(ResourceDemand):
    """A demand as stored in the database."""

    reason: Reason | None = None
    """Why it does not run."""


CLUSTER_SYNC_NAME = "cluster"
"""The name of the only row."""


class ClusterSyncStatus(DomainModel):
    """The leader of the cluster sync, and its progress. Every sync saves this row; its version is the fence."""

    name: str = CLUSTER_SYNC_NAME
    holder: str
    synced_at: datetime | None = None
    """When the database last matched the cluster."""
    notes: tuple[str, ...] = ()
    version: int = 1


class ChangeState(StrEnum):
    """The state of a quota change. The last two are final."""

    PENDING = "pending"
    APPLIED = "applied"
    REFUSED = "refused"


class QuotaChange(DomainModel):
    """A requested change of one quota of a project's resource: accepted first, then applied to the cluster."""

    id: str
    project: str
    """Uid of the project."""
    name: str
    """Name of the project."""
    pool: str
    spec: QuotaSpec | None
    """None deletes the quota."""
    state: ChangeState = ChangeState.PENDING
    problem: str = ""
    """Why the cluster rejected the change after the dry run had succeeded."""
    created_by: str
    created_at: datetime
    ended_at: datetime | None = None
    sequence: int | None = None
    """Order of acceptance, numbered by the database."""
    version: int = 1
