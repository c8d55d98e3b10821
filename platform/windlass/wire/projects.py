"""Projects, members, keys, pools, quotas."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from windlass.domain.ids import Name
from windlass.wire.base import In, Out, ReasonOut, shown

MAX_GPUS = 1_000_000
"""Far above any pool, far below what would overflow a sum."""

Priority = Annotated[int, Field(ge=-1000, le=1000)]
"""As in a job's spec."""

Role = Literal["viewer", "editor", "owner"]
"""viewer reads and predicts; editor also uploads, trains and deploys; owner also manages members."""


class ProjectIn(In):
    """Create a project. Projects of one cohort lend each other idle quota."""

    model_config = shown({"name": "search", "display_name": "Search team", "cohort": "lab"})

    name: Name
    display_name: str = Field(default="", max_length=200)
    cohort: Name | None = None
    priority_ceiling: Priority = Field(default=0, description="highest priority of its jobs")


class ProjectPatch(In):
    """Change a project; what is left out stays. ``cohort`` null leaves the cohort."""

    model_config = shown({"display_name": "Search and ranking"})

    display_name: str | None = Field(default=None, max_length=200)
    cohort: Name | None = None
    priority_ceiling: Priority | None = Field(default=None, description="highest priority of its jobs")


class ProjectOut(Out):
    """A tenant."""

    name: str
    uid: str
    display_name: str
    cohort: str | None
    priority_ceiling: int
    created_at: datetime
    version: int


class MemberIn(In):
    """Give a user a role: ``PUT /projects/{p}/members/{user}``."""

    model_config = shown({"role": "editor"})

    role: Role


class MemberOut(Out):
    """A user's role in a project."""

    user: str
    role: Role
    version: int


class KeyIn(In):
    """Make an API key for a user. ``admin`` lets it manage the platform; ``project`` confines it to one project."""

    model_config = shown({"user": "ada", "name": "laptop", "expires_in_days": 90})

    user: Name
    name: str = Field(default="", max_length=100)
    admin: bool = False
    project: Name | None = None
    expires_in_days: int | None = Field(default=None, ge=1, le=3650)


class KeyOut(Out):
    """An API key without its secret."""

    id: str
    user: str
    name: str
    admin: bool
    project: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewKeyOut(KeyOut):
    """An API key just made; ``secret`` is shown this once."""

    secret: str


class PoolIn(In):
    """Create a pool of accelerators. ``capacity`` counts GPUs, or CPU slots where there are none."""

    model_config = shown({"name": "a100", "capacity": 16, "gpu_type": "NVIDIA A100", "price_per_gpu_hour": 2.5})

    name: Name
    capacity: int = Field(ge=0, le=MAX_GPUS)
    gpu_type: str = Field(default="", max_length=100)
    max_gpus_per_job: int | None = Field(default=None, ge=1, le=MAX_GPUS)
    price_per_gpu_hour: float = Field(default=0.0, ge=0, le=1_000_000, allow_inf_nan=False)


class PoolPatch(In):
    """Change a pool; what is left out stays."""

    model_config = shown({"capacity": 24})

    capacity: int | None = Field(default=None, ge=0, le=MAX_GPUS)
    gpu_type: str | None = Field(default=None, max_length=100)
    max_gpus_per_job: int | None = Field(default=None, ge=1, le=MAX_GPUS)
    price_per_gpu_hour: float | None = Field(default=None, ge=0, le=1_000_000, allow_inf_nan=False)


class PoolOut(Out):
    """A pool with what is in use now. What a cluster counts is null where there is none."""

    name: str
    capacity: int
    gpu_type: str
    max_gpus_per_job: int | None
    price_per_gpu_hour: float
    nodes: int | None = Field(description="nodes with the pool's labels")
    ready_nodes: int | None = Field(description="those of them that are ready and may be scheduled to")
    allocatable: int | None = Field(description="GPUs of the ready nodes")
    nominal: int = Field(description="GPUs that projects were promised")
    in_use: int
    problem: str = Field(description="why the pool is not ready; empty when it is")
    created_at: datetime
    version: int


class QuotaIn(In):
    """Set a project's share of a pool: ``PUT /projects/{p}/quotas/{pool}``. A null limit means unlimited."""

    model_config = shown({"nominal": 4, "borrowing_limit": 8, "lending_limit": 4})

    nominal: int = Field(ge=0, le=MAX_GPUS)
    borrowing_limit: int | None = Field(default=None, ge=0, le=MAX_GPUS)
    lending_limit: int | None = Field(default=None, ge=0, le=MAX_GPUS)


class WaitingOut(Out):
    """A job that waits for GPUs. ``job`` is its id, or ``namespace/name`` of what others have queued."""

    job: str
    gpus: int
    priority: int
    position: int | None = Field(description="place in the project's queue, from 1; null: in no queue")
    reason: ReasonOut | None


class QuotaOut(Out):
    """One line of the ledger: what a project has in a pool, uses, borrows and lends now."""

    project: str
    pool: str
    cohort: str | None
    nominal: int
    borrowing_limit: int | None
    lending_limit: int | None
    managed_by: str = Field(description="who else manages the quota in the cluster, as kubectl or helm; empty: nobody")
    used: int
    overcommitted: int = Field(description="GPUs held beyond what the quota allows now; nothing starts until it is 0")
    borrowed_from: dict[str, int] = Field(description="project -> GPUs")
    lent_to: dict[str, int] = Field(description="project -> GPUs")
    reclaimable: int
    free: int = Field(description="GPUs that a new job of this project could start on now")
    pending: int = Field(description="jobs that wait")
    waiting: list[WaitingOut] = Field(description="the first hundred of them, in order")
    wait_p50_seconds: float | None = Field(description="median wait of the last seven days until the first GPUs")
    wait_p90_seconds: float | None = Field(description="of ten jobs nine waited no longer; null: none has started")
    version: int


class AffectedOut(Out):
    """A job that a change would touch."""

    job: str
    project: str


class QuotaChangeOut(Out):
    """A change of a quota, and what it does at once.

    ``checked``: it was only tried. ``pending``: accepted, and on its way to the cluster. ``applied``: it stands.
    ``refused``: somebody else manages the quota, perhaps since a moment ago; ``problem`` says who.
    """

    id: str | None
    project: str
    pool: str
    nominal: int | None = Field(description="null: the quota is taken away")
    borrowing_limit: int | None
    lending_limit: int | None
    state: Literal["checked", "pending", "applied", "refused"]
    problem: str
    preempts: list[AffectedOut] = Field(description="jobs that must give GPUs back")
    starts: list[AffectedOut] = Field(description="jobs that can start")
    created_at: datetime
    ended_at: datetime | None
