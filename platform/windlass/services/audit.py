"""The audit log."""

from dataclasses import dataclass

from windlass.domain.records import AuditEntry
from windlass.ports.filters import AuditFilter
from windlass.services.base import BaseService


@dataclass(frozen=True)
class AuditTrail(BaseService):
    """The accepted mutations, for platform admins."""

    def page(
        self,
        limit: int,
        after: str | None,
        *,
        project: str | None = None,
        actor: str | None = None,
        action: str | None = None,
    ) -> list[AuditEntry]:
        """List entries, newest first.

        Args:
            limit: maximum number of entries.
            after: id of the last entry of the page before.
            project: only those of this project: its name, or its uid, by which a deleted project is found.
            actor: only those of this user, job or ``SYSTEM``.
            action: only those of this action, such as ``dataset.delete``.
        """
        where: AuditFilter = {}
        if actor is not None:
            where["actor"] = actor
        if action is not None:
            where["action"] = action
        with self.deps.database.read() as uow:
            if project is not None:
                named = uow.projects.find({"name": project})
                where["project"] = named.id if named else project
            return uow.audit.page(limit, after, where, newest_first=True)
