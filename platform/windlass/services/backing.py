"""What every use case stands on: the ports, and who asks."""

from collections.abc import Callable
from dataclasses import dataclass, field

from windlass.domain.ids import new_id
from windlass.domain.projects import Principal
from windlass.domain.records import AuditEntry
from windlass.ports import Clock, Database, ObjectStore, UnitOfWork
from windlass.services.admission import Admission


@dataclass(frozen=True)
class Backing:
    """The ports that use cases share."""

    database: Database
    store: ObjectStore
    clock: Clock
    new_id: Callable[[str], str] = new_id
    admission: Admission = field(default_factory=Admission)


@dataclass(frozen=True)
class Caller:
    """Who asks, under which request id: every accepted mutation is recorded with both."""

    principal: Principal
    request_id: str = ""


SYSTEM = "system"
"""The actor of what the platform does by itself, because time has passed."""


def record(
    backing: Backing,
    work: UnitOfWork,
    actor: str,
    action: str,
    subject: str,
    project: str | None,
    *,
    request_id: str = "",
) -> None:
    """Write the audit row of a change, in its transaction. The actor is a user, a job by its id, or ``SYSTEM``."""
    work.audit.add(
        AuditEntry(
            id=backing.new_id("aud"),
            time=backing.clock.now(),
            actor=actor,
            project=project,
            action=action,
            subject=subject,
            request_id=request_id,
        )
    )


@dataclass(frozen=True)
class UseCases:
    """Base of the use cases: the ports and the caller."""

    backing: Backing
    caller: Caller

    def audit(self, work: UnitOfWork, action: str, subject: str, project: str | None = None) -> None:
        """Record the mutation in its own transaction (invariant I8)."""
        who, request_id = self.caller.principal.user, self.caller.request_id
        record(self.backing, work, who, action, subject, project, request_id=request_id)


@dataclass(frozen=True)
class ProjectUseCases(UseCases):
    """Base of the use cases inside one project, named by its uid."""

    project: str
