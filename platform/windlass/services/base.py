"""Base classes of the services, their dependencies and the audit log."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from windlass.domain.audit import AuditEntry
from windlass.domain.audit_changes import field_changes
from windlass.domain.capabilities import Capability, capability_missing
from windlass.domain.ids import new_id
from windlass.domain.jobs import DomainModel
from windlass.domain.limits import ProjectLimits
from windlass.domain.projects import Principal
from windlass.kit.lease import LeaseObserver
from windlass.ports import Clock, Database, ObjectStore, ServingBackend, UnitOfWork, UrlSigner, WorkerDatabase
from windlass.services.admission import Admission
from windlass.services.data_keys import ProjectKeys
from windlass.services.quota_backends import QuotaBackend
from windlass.services.secrets import SecretHasher
from windlass.services.upload_hashes import UploadHashes
from windlass.services.uptime import ApiUptime


@dataclass(frozen=True)
class ServiceDependencies:
    """The ports that all services share."""

    database: Database
    store: ObjectStore
    clock: Clock
    admission: Admission
    quota_backend: QuotaBackend
    hasher: SecretHasher
    capabilities: frozenset[Capability]
    limits: ProjectLimits
    check_model_source: Callable[[Path], None]
    """``ports.ModelImporter.check_source``."""
    serving: ServingBackend | None = None
    """None without ``Capability.SERVING``."""
    signer: UrlSigner | None = None
    """Presigned requests; None where every process reads the store by path."""
    data_keys: ProjectKeys | None = None
    """The keys by which the store encrypts; None for a store that does not."""
    new_id: Callable[[str], str] = new_id
    upload_hashes: UploadHashes = field(default_factory=UploadHashes)
    leases: LeaseObserver = field(default_factory=LeaseObserver)
    uptime: ApiUptime | None = None
    """The clock of heartbeat timeouts where other processes than this one use the database."""

    def heartbeat_seconds(self) -> float:
        """Return the time of the clock of heartbeat timeouts."""
        return self.clock.monotonic() if self.uptime is None else self.uptime.seconds()

    def require(self, capability: Capability) -> None:
        """Require a capability of this server.

        Raises:
            CapabilityMissingError: the server does not have it.
        """
        if capability not in self.capabilities:
            raise capability_missing(capability)


@dataclass(frozen=True)
class WorkerDependencies(ServiceDependencies):
    """The ports of the worker's services, whose transactions reach the rows of all projects."""

    database: WorkerDatabase


@dataclass(frozen=True)
class Caller:
    """The authenticated principal and where its request came from; the audit log stores them with every mutation."""

    principal: Principal
    request_id: str = ""
    address: str = ""


@dataclass(frozen=True)
class RequestOrigin:
    """Where a request without a principal, such as a sign-in, came from."""

    request_id: str = ""
    address: str = ""


SYSTEM = "system"
"""The audit actor of changes that no user or job requested."""


def record_audit(
    deps: ServiceDependencies,
    uow: UnitOfWork,
    actor: str | Caller,
    action: str,
    subject: str,
    name: str,
    *,
    project: str | None,
    change: tuple[DomainModel | None, DomainModel | None] = (None, None),
) -> None:
    """Write the audit entry of a change in the same transaction.

    Args:
        deps: the ports.
        uow: the transaction of the change.
        actor: the caller; a job's id or ``SYSTEM`` for a change that no request made.
        action: noun and verb, such as ``dataset.delete``.
        subject: id of the changed object.
        name: its name at that time, by which people find the entry after the object is gone.
        project: uid of its project; None for a global object.
        change: the object before and after the change; None: it did not exist.
    """
    request = actor if isinstance(actor, Caller) else None
    user = actor.principal.user if isinstance(actor, Caller) else actor
    if project is None:
        uow.memberships(user)  # row security lets its actor write the row of a global object
    uow.audit.add(
        AuditEntry(
            id=deps.new_id("aud"),
            time=deps.clock.now(),
            actor=user,
            key=(request.principal.credential or None) if request else None,
            address=request.address if request else "",
            request_id=request.request_id if request else "",
            project=project,
            action=action,
            subject=subject,
            name=name,
            changes=field_changes(*change),
        )
    )


def stored_bytes(store: ObjectStore, *prefixes: str) -> int:
    """Return the bytes of all files below the prefixes. It reads the store: call it outside a transaction."""
    return sum(store.total_bytes(prefix) for prefix in prefixes)


@dataclass(frozen=True)
class BaseService:
    """A service with its dependencies and the caller."""

    deps: ServiceDependencies
    caller: Caller

    def audit(
        self,
        uow: UnitOfWork,
        action: str,
        subject: str,
        name: str,
        project: str | None = None,
        *,
        before: DomainModel | None = None,
        after: DomainModel | None = None,
    ) -> None:
        """Record a mutation in its transaction (invariant I8), with the object before and after it."""
        change = (before, after)
        record_audit(self.deps, uow, self.caller, action, subject, name, project=project, change=change)


@dataclass(frozen=True)
class ProjectService(BaseService):
    """A service of one project; ``project`` is its uid."""

    project: str
