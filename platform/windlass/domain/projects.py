"""Projects, members, API keys, pools, quotas, roles and permissions."""

from datetime import datetime
from enum import StrEnum

from windlass.domain.jobs import DomainModel


class Role(StrEnum):
    """A member's role in a project; each includes the ones before it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


class PlatformRole(StrEnum):
    """A role on the whole platform. A viewer reads everything; an admin has all permissions in every project."""

    VIEWER = "platform-viewer"
    ADMIN = "platform-admin"


class SubjectKind(StrEnum):
    """What a member is, named as the subjects of a RoleBinding in Kubernetes."""

    USER = "User"
    GROUP = "Group"


class Permission(StrEnum):
    """The permission that a route requires, ``resource:action``."""

    AUDIT_READ = "audit:read"
    BASE_MODELS_READ = "base-models:read"
    BASE_MODELS_WRITE = "base-models:write"
    BUDGETS_READ = "budgets:read"
    BUDGETS_READ_ALL = "budgets:read-all"
    BUDGETS_WRITE = "budgets:write"
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    ENDPOINTS_PREDICT = "endpoints:predict"
    ENDPOINTS_READ = "endpoints:read"
    ENDPOINTS_WRITE = "endpoints:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    KEYS_OWN = "keys:own"
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
    SERVICE_ACCOUNTS_READ = "service-accounts:read"
    SERVICE_ACCOUNTS_WRITE = "service-accounts:write"
    SESSIONS_OWN = "sessions:own"
    USAGE_READ = "usage:read"
    USAGE_READ_ALL = "usage:read-all"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    WHOAMI = "whoami:read"


_P = Permission
_VIEWER = frozenset(
    {
        _P.BUDGETS_READ,
        _P.DATASETS_READ,
        _P.ENDPOINTS_PREDICT,
        _P.ENDPOINTS_READ,
        _P.JOBS_READ,
        _P.MEMBERS_READ,
        _P.MODELS_READ,
        _P.PROJECTS_READ,
        _P.QUOTAS_READ,
        _P.SERVICE_ACCOUNTS_READ,
        _P.USAGE_READ,
    }
)
_EDITOR = _VIEWER | {_P.DATASETS_WRITE, _P.ENDPOINTS_WRITE, _P.JOBS_WRITE, _P.MODELS_WRITE}
_ADMIN = _EDITOR | {_P.MEMBERS_WRITE, _P.PROJECT_UPDATE, _P.SERVICE_ACCOUNTS_WRITE}
ROLES = tuple(Role)
"""From the fewest to the most permissions."""
GRANTS: dict[Role, frozenset[Permission]] = {Role.VIEWER: _VIEWER, Role.EDITOR: _EDITOR, Role.ADMIN: _ADMIN}
"""The permissions of each role within its project."""

PLATFORM_GRANTS: dict[PlatformRole, frozenset[Permission]] = {
    PlatformRole.VIEWER: frozenset(each for each in _P if each.value.endswith((":read", ":read-all"))),
    PlatformRole.ADMIN: frozenset(_P),
}
"""The permissions of platform roles, in every project and outside of projects."""

ANY_USER = frozenset({_P.BASE_MODELS_READ, _P.KEYS_OWN, _P.POOLS_READ, _P.SESSIONS_OWN, _P.WHOAMI})
"""The permissions of every authenticated user outside of projects."""


class Project(DomainModel):
    """A tenant. ``id`` is its uid: a name that is reused after a deletion is another project."""

    id: str
    name: str
    display_name: str = ""
    cohort: str | None = None
    priority_ceiling: int = 0
    """The highest priority of its jobs. Set by admins, because priority also orders jobs of different projects."""
    created_at: datetime
    version: int = 1


class Member(DomainModel):
    """The role of a user, or of all users of a group, in a project."""

    project: str
    kind: SubjectKind = SubjectKind.USER
    name: str
    role: Role
    version: int = 1


class ApiKey(DomainModel):
    """A key without its secret: ``secret_hash`` is HMAC-SHA256 under the server's pepper."""

    id: str
    user: str
    name: str = ""
    platform_role: PlatformRole | None = None
    project: str | None = None
    service_account: str | None = None
    """Id of the service account that it authenticates."""
    permissions: tuple[Permission, ...] | None = None
    """The only permissions of the key; None: all that its user has."""
    secret_hash: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def label(self) -> str:
        """The user, and the name of the key if it has one, such as ``ada (laptop)``."""
        return f"{self.user} ({self.name})" if self.name else self.user


class Pool(DomainModel):
    """A named class of accelerators; in a cluster the row is a copy of a GPUPool."""

    id: str
    name: str
    capacity: int
    gpu_type: str = ""
    max_gpus_per_job: int | None = None
    price_per_gpu_hour: float = 0.0
    gpu_memory_bytes: int | None = None
    """Memory of one GPU; None: not known, or there are none."""
    nodes: int | None = None
    """Nodes with the pool's labels; None in embedded mode."""
    ready_nodes: int | None = None
    """Nodes that are Ready and schedulable."""
    allocatable: int | None = None
    """GPUs of the ready nodes."""
    free_gpus: tuple[int, ...] | None = None
    """Free GPUs of each ready node, the most first; None: not known."""
    problem: str = ""
    """Why the pool's resource is not Ready."""
    created_at: datetime
    version: int = 1

    @property
    def has_gpus(self) -> bool:
        """Whether it counts GPUs; if not, it counts CPU slots."""
        return bool(self.gpu_type) or self.gpu_memory_bytes is not None or self.nodes is not None


class StoredQuota(DomainModel):
    """A project's quota in a pool; a limit of None is unlimited."""

    project: str
    pool: str
    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None
    managed_by: str = ""
    """Field manager other than Windlass, such as ``kubectl`` or ``helm``, that must make changes; empty: none."""
    version: int = 1


class QueueTimeSample(DomainModel):
    """Time between queueing and first admission of one job."""

    project: str
    pool: str
    subject: str
    """The job's id, or the uid of the workload."""
    seconds: float
    admitted_at: datetime


class Principal(DomainModel):
    """The authenticated user of a request."""

    user: str
    credential: str
    """Id of the API key or session, or ``token`` for a token of the identity provider."""
    groups: tuple[str, ...] = ()
    """The user's groups at the identity provider."""
    service_account_role: Role | None = None
    """The role of a service account in its project, the only one that it has."""
    permissions: frozenset[Permission] | None = None
    """The only permissions of the credential; None: all that the user has."""
    expires_at: datetime | None = None
    """When the credential expires."""
    key_expires_at: datetime | None = None
    """When the API key expires that the credential is, or that its session was opened with; None: no key, or never."""
    platform_role: PlatformRole | None = None
    project: str | None = None
    """Uid of the project that the key is restricted to; None: unrestricted."""

    @property
    def usage_key(self) -> str:
        """What usage is counted by: the id of the API key, or the user of a credential that lasts for one session."""
        return self.credential if self.credential.startswith("key_") else self.user

    @property
    def is_platform_admin(self) -> bool:
        """Whether the user may do everything; a credential for one project never may."""
        return self.platform_role is PlatformRole.ADMIN and self.project is None

    def may(self, permission: Permission, role: Role | None = None) -> bool:
        """Return whether the principal has a permission: in a project where it has this role, else outside of them."""
        if self.permissions is not None and permission not in self.permissions:
            return False
        if self.platform_role is not None and permission in PLATFORM_GRANTS[self.platform_role]:
            return True
        return permission in (ANY_USER if role is None else GRANTS[role])
