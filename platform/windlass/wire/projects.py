"""Projects, members, keys, pools, quotas."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator

from windlass.domain.ids import Name, UserName
from windlass.domain.projects import Permission
from windlass.domain.text import DisplayName
from windlass.wire.base import In, Out, ReasonOut, shown

MAX_GPUS = 1_000_000
"""Larger than any pool; sums do not overflow."""

Priority = Annotated[int, Field(ge=-1000, le=1000)]
"""The range of ``priority`` in a job spec."""

Role = Literal["viewer", "editor", "admin"]
"""viewer reads and predicts; editor also uploads, trains and deploys; admin also manages members."""

PlatformRole = Literal["platform-viewer", "platform-admin"]
"""platform-viewer reads everything; platform-admin has all permissions in every project."""


class ProjectIn(In):
    """Create a project. Projects of a cohort lend idle quota to each other."""

    model_config = shown({"name": "search", "display_name": "Search team", "cohort": "lab"})

    name: Name
    """Name, unique on the platform."""
    display_name: DisplayName = ""
    """Name for people."""
    cohort: Name | None = None
    """Projects of one cohort lend quota to each other; null: none."""
    priority_ceiling: Priority = Field(default=0, description="highest priority of its jobs")


class ProjectPatch(In):
    """Update a project; omitted fields are unchanged. ``cohort`` null removes it from its cohort."""

    model_config = shown({"display_name": "Search and ranking"})

    display_name: DisplayName = ""
    """Name for people."""
    cohort: Name | None = None
    """Projects of one cohort lend quota to each other; null: none."""
    priority_ceiling: Priority = Field(default=0, description="highest priority of its jobs")


class ProjectOut(Out):
    """A tenant."""

    name: str
    """Name, unique on the platform."""
    uid: str
    """Id; a project that is created again under this name has another one."""
    display_name: str
    """Name for people."""
    cohort: str | None
    """Cohort that it lends to and borrows from; null: none."""
    priority_ceiling: int
    """Highest priority of its jobs."""
    created_at: datetime
    """Time of creation."""
    version: int
    """Version of this object, for If-Match."""


class MemberIn(In):
    """Set the role of a user, or of a group: ``PUT /projects/{p}/members/{user}``, ``/groups/{group}``."""

    model_config = shown({"role": "editor"})

    role: Role
    """What the member may do in the project."""


class MemberOut(Out):
    """The role of a user, or of all users of a group, in a project."""

    kind: Literal["User", "Group"]
    """Whether the name is that of a user or of a group of the identity provider."""
    name: str
    """Name of the user or the group."""
    role: Role
    """What the member may do in the project."""
    version: int
    """Version of this object."""


Permissions = Annotated[list[Permission], Field(min_length=1, max_length=len(Permission))]


class KeyIn(In):
    """Create an API key for a user. ``project`` restricts it to a project."""

    model_config = shown({"user": "ada", "name": "laptop", "expires_in_days": 90})

    user: UserName
    """User that the key authenticates."""
    name: DisplayName = ""
    """Display name of the key."""
    platform_role: PlatformRole | None = None
    """Role on the whole platform; null: none."""
    project: Name | None = None
    """Project that the key is restricted to; null: unrestricted."""
    permissions: Permissions | None = None
    """The only permissions of the key; null: all that the user has."""
    expires_in_days: int | None = Field(default=None, ge=1, le=3650)
    """Days until the key expires; null: never."""


class KeyOut(Out):
    """An API key without its secret."""

    id: str
    """Id of the key."""
    user: str
    """User that the key authenticates."""
    name: str
    """Display name of the key."""
    platform_role: PlatformRole | None
    """Role on the whole platform; null: none."""
    project: str | None
    """Name of the project that it is restricted to; null: unrestricted."""
    permissions: list[str] | None
    """Its only permissions; null: all that the user has."""
    created_at: datetime
    """Time of creation."""
    expires_at: datetime | None
    """When it expires; null: never."""
    revoked_at: datetime | None
    """When it was revoked; null: it is valid."""


class NewKeyOut(KeyOut):
    """A new API key; ``secret`` is returned only once."""

    secret: str
    """The key for the Authorization header."""


GpuMemory = Annotated[int | None, Field(ge=1 << 20, le=1 << 40)]


class PoolIn(In):
    """Create a pool of accelerators. ``capacity`` counts GPUs, or CPU slots where there are none."""

    model_config = shown({"name": "a100", "capacity": 16, "gpu_type": "NVIDIA A100", "price_per_gpu_hour": 2.5})

    name: Name
    """Name of the pool."""
    capacity: int = Field(ge=0, le=MAX_GPUS)
    """Number of GPUs, or of CPU slots."""
    gpu_type: DisplayName = ""
    """Display name of the GPU model."""
    max_gpus_per_job: int | None = Field(default=None, ge=1, le=MAX_GPUS)
    """Limit of one job; null: none."""
    price_per_gpu_hour: float = Field(default=0.0, ge=0, le=1_000_000)
    """Price for the usage report."""
    gpu_memory_bytes: GpuMemory = None
    """Memory of one GPU; jobs that cannot fit are refused. null: not known."""


class PoolPatch(In):
    """Update a pool; omitted fields are unchanged. null removes ``max_gpus_per_job`` and ``gpu_memory_bytes``."""

    model_config = shown({"capacity": 24})

    capacity: int = Field(default=0, ge=0, le=MAX_GPUS)
    """Number of GPUs, or of CPU slots."""
    gpu_type: DisplayName = ""
    """Display name of the GPU model."""
    max_gpus_per_job: int | None = Field(default=None, ge=1, le=MAX_GPUS)
    """Limit of one job; null: none."""
    price_per_gpu_hour: float = Field(default=0.0, ge=0, le=1_000_000)
    """Price for the usage report."""
    gpu_memory_bytes: GpuMemory = None
    """Memory of one GPU; null: not known."""

    @field_validator("capacity", "gpu_type", "price_per_gpu_hour")
    @classmethod
    def _not_null(cls, value: float | str | None) -> float | str:
        if value is None:
            raise ValueError("must not be null; omit the field to leave it unchanged")
        return value


class PoolOut(Out):
    """A pool with its current use. Node counts are null in embedded mode."""

    name: str
    """Name of the pool."""
    capacity: int
    """Number of GPUs, or of CPU slots."""
    gpu_type: str
    """Display name of the GPU model."""
    max_gpus_per_job: int | None
    """Limit of one job; null: none."""
    price_per_gpu_hour: float
    """Price for the usage report."""
    gpu_memory_bytes: int | None
    """Memory of one GPU; null: not known."""
    nodes: int | None = Field(description="nodes with the pool's labels")
    ready_nodes: int | None = Field(description="nodes that are ready and schedulable")
    allocatable: int | None = Field(description="GPUs of the ready nodes")
    nominal: int = Field(description="sum of the nominal quotas of projects, in GPUs")
    in_use: int
    """GPUs of admitted jobs."""
    problem: str = Field(description="why the pool is not ready; empty: it is ready")
    created_at: datetime
    """Time of creation."""
    version: int
    """Version of this object, for If-Match."""


class QuotaIn(In):
    """Set a project's quota in a pool: ``PUT /projects/{p}/quotas/{pool}``. A null limit is unlimited."""

    model_config = shown({"nominal": 4, "borrowing_limit": 8, "lending_limit": 4})

    nominal: int = Field(ge=0, le=MAX_GPUS)
    """GPUs that the project owns."""
    borrowing_limit: int | None = Field(default=None, ge=0, le=MAX_GPUS)
    """GPUs that it may borrow from its cohort; null: unlimited."""
    lending_limit: int | None = Field(default=None, ge=0, le=MAX_GPUS)
    """Idle GPUs that it lends; null: all."""


class PendingJobOut(Out):
    """A job that waits for GPUs. ``job`` is its id, or ``namespace/name`` of a workload not created by Windlass."""

    job: str
    """Id of the job, or namespace and name of another workload."""
    gpus: int
    """GPUs that it needs."""
    priority: int
    """Its priority."""
    position: int | None = Field(description="position in the project's queue, from 1; null: not in a queue")
    reason: ReasonOut | None
    """Why it waits."""


class QuotaOut(Out):
    """Quota of a project in a pool, and its current use, borrowing and lending, in GPUs."""

    project: str
    """Name of the project."""
    pool: str
    """Name of the pool."""
    cohort: str | None
    """Cohort of the project; null: none."""
    nominal: int
    """GPUs that the project owns."""
    borrowing_limit: int | None
    """GPUs that it may borrow; null: unlimited."""
    lending_limit: int | None
    """Idle GPUs that it lends; null: all."""
    managed_by: str = Field(
        description="other field managers of the quota in the cluster, such as kubectl or helm; empty: none"
    )
    used: int
    """GPUs of its admitted jobs."""
    overcommitted: int = Field(description="GPUs in use beyond the current quota; no job starts until it is 0")
    borrowed_from: dict[str, int] = Field(description="project -> GPUs")
    lent_to: dict[str, int] = Field(description="project -> GPUs")
    reclaimable: int
    """Lent GPUs that it gets back when it needs them."""
    free: int = Field(description="GPUs available to a new job of this project now")
    pending: int = Field(description="number of waiting jobs")
    waiting: list[PendingJobOut] = Field(description="the first hundred waiting jobs, in queue order")
    queue_time_p50_seconds: float | None = Field(description="median queue time of the last seven days")
    queue_time_p90_seconds: float | None = Field(
        description="90th percentile of the queue time; null: no job has started"
    )
    version: int
    """Version of this object."""


class JobImpactOut(Out):
    """A job that a quota change affects."""

    job: str
    """Id of the job."""
    project: str
    """Name of its project."""


class QuotaChangeOut(Out):
    """A quota change and its immediate effect.

    ``checked``: dry run. ``pending``: accepted, not applied to the cluster yet. ``applied``: in effect.
    ``refused``: another field manager owns the quota; ``problem`` names it.
    """

    id: str | None
    """Id of the change; null for a dry run."""
    project: str
    """Name of the project."""
    pool: str
    """Name of the pool."""
    nominal: int | None = Field(description="null: the quota is deleted")
    borrowing_limit: int | None
    """GPUs that it may borrow; null: unlimited."""
    lending_limit: int | None
    """Idle GPUs that it lends; null: all."""
    state: Literal["checked", "pending", "applied", "refused"]
    """How far the change is."""
    problem: str
    """Why it was refused; empty: it was not."""
    preempts: list[JobImpactOut] = Field(description="jobs that are preempted")
    starts: list[JobImpactOut] = Field(description="jobs that can start")
    created_at: datetime
    """When it was accepted."""
    ended_at: datetime | None
    """When it was applied or refused; null: pending."""
