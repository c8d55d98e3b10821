"""Tenants and who may do what: projects, members, keys, pools, quotas, and the one table of permissions."""

from datetime import datetime
from enum import StrEnum

from windlass.domain.jobs import Fact


class Role(StrEnum):
    """A member's role in a project; each includes the ones before it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"


class Permission(StrEnum):
    """What a route needs, ``noun:verb``. Platform permissions belong to admins alone."""

    AUDIT_READ = "audit:read"
    BASE_MODELS_READ = "base-models:read"
    BASE_MODELS_WRITE = "base-models:write"
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    ENDPOINTS_PREDICT = "endpoints:predict"
    ENDPOINTS_READ = "endpoints:read"
    ENDPOINTS_WRITE = "endpoints:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    KEYS_WRITE = "keys:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    METRICS_READ = "metrics:read"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    POOLS_READ = "pools:read"
    POOLS_WRITE = "pools:write"
    PROJECTS_READ = "projects:read"
    PROJECTS_WRITE = "projects:write"
    PROJECT_UPDATE = "projects:update"
    QUOTAS_READ = "quotas:read"
    QUOTAS_READ_ALL = "quotas:read-all"
    QUOTAS_WRITE = "quotas:write"
    USAGE_READ = "usage:read"
    WHOAMI = "whoami:read"


_P = Permission
_VIEWER = frozenset(
    {
        _P.DATASETS_READ,
        _P.ENDPOINTS_PREDICT,
        _P.ENDPOINTS_READ,
        _P.JOBS_READ,
        _P.MEMBERS_READ,
        _P.MODELS_READ,
        _P.PROJECTS_READ,
        _P.QUOTAS_READ,
        _P.USAGE_READ,
    }
)
_EDITOR = _VIEWER | {_P.DATASETS_WRITE, _P.ENDPOINTS_WRITE, _P.JOBS_WRITE, _P.MODELS_WRITE}
_OWNER = _EDITOR | {_P.MEMBERS_WRITE, _P.PROJECT_UPDATE}
GRANTS: dict[Role, frozenset[Permission]] = {Role.VIEWER: _VIEWER, Role.EDITOR: _EDITOR, Role.OWNER: _OWNER}
"""What each role may do inside its project."""

ANY_USER = frozenset({_P.BASE_MODELS_READ, _P.POOLS_READ, _P.WHOAMI})
"""What every authenticated user may do outside of projects."""


class Project(Fact):
    """A tenant. ``id`` is its uid: a name used again after a deletion is another project."""

    id: str
    name: str
    display_name: str = ""
    cohort: str | None = None
    priority_ceiling: int = 0
    """The highest priority of its jobs. An admin's to give: priority counts among projects that borrow, too."""
    created_at: datetime
    version: int = 1


class Member(Fact):
    """A user's role in a project."""

    project: str
    user: str
    role: Role
    version: int = 1


class ApiKey(Fact):
    """A key without its secret: ``secret_hash`` is HMAC-SHA256 under the server's pepper."""

    id: str
    user: str
    name: str = ""
    admin: bool = False
    project: str | None = None
    secret_hash: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class Pool(Fact):
    """A named class of accelerators; in embedded mode the row is the truth, in a cluster it mirrors a GPUPool."""

    id: str
    name: str
    capacity: int
    gpu_type: str = ""
    max_gpus_per_job: int | None = None
    price_per_gpu_hour: float = 0.0
    nodes: int | None = None
    """Nodes with the pool's labels; None where no cluster counts them."""
    ready_nodes: int | None = None
    """Those of them that are Ready and may be scheduled to."""
    allocatable: int | None = None
    """GPUs of the ready nodes."""
    problem: str = ""
    """Why the pool's resource is not Ready."""
    created_at: datetime
    version: int = 1


class StoredQuota(Fact):
    """A project's share of a pool; a null limit means unlimited."""

    project: str
    pool: str
    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None
    managed_by: str = ""
    """Who else than Windlass wrote it into the cluster, as ``kubectl`` or ``helm``: changes belong there."""
    version: int = 1


class Wait(Fact):
    """How long a job waited until it first got its GPUs."""

    project: str
    pool: str
    subject: str
    """The job's id, or the uid of the workload."""
    seconds: float
    at: datetime
    """When it got them."""


class Principal(Fact):
    """Who asks: the user behind a key."""

    user: str
    key: str
    admin: bool = False
    project: str | None = None
    """Uid of the one project that the key is confined to, if it is."""
