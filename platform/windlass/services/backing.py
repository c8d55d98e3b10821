"""What every use case stands on: the ports, and who asks."""

from collections.abc import Callable
from dataclasses import dataclass

from windlass.domain.ids import new_id
from windlass.domain.projects import Principal
from windlass.domain.records import AuditEntry
from windlass.ports import Clock, Database, ObjectStore, UnitOfWork


@dataclass(frozen=True)
class Backing:
    """The ports that use cases share."""

    database: Database
    store: ObjectStore
    clock: Clock
    new_id: Callable[[str], str] = new_id


@dataclass(frozen=True)
class Caller:
    """Who asks, under which request id: every accepted mutation is recorded with both."""

    principal: Principal
    request_id: str = ""


@dataclass(frozen=True)
class UseCases:
    """Base of the use cases: the ports and the caller."""

    backing: Backing
    caller: Caller

    def audit(self, work: UnitOfWork, action: str, subject: str, project: str | None = None) -> None:
        """Record the mutation in its own transaction (invariant I8)."""
        work.audit.add(
            AuditEntry(
                id=self.backing.new_id("aud"),
                time=self.backing.clock.now(),
                actor=self.caller.principal.user,
                project=project,
                action=action,
                subject=subject,
                request_id=self.caller.request_id,
            )
        )


@dataclass(frozen=True)
class ProjectUseCases(UseCases):
    """Base of the use cases inside one project, named by its uid."""

    project: str
