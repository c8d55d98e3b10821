"""Reading the audit trail."""

from dataclasses import dataclass

from windlass.domain.records import AuditEntry
from windlass.services.backing import UseCases


@dataclass(frozen=True)
class AuditTrail(UseCases):
    """Accepted mutations, for platform admins."""

    def page(self, limit: int, after: str | None, project: str | None) -> list[AuditEntry]:
        """List entries, newest first; all projects when ``project`` (a uid) is None."""
        where = {} if project is None else {"project": project}
        with self.backing.database.read() as work:
            return work.audit.page(limit, after, newest_first=True, **where)
