"""Service accounts of a project."""

from dataclasses import dataclass

from windlass.domain.identity import ServiceAccount
from windlass.domain.projects import Role
from windlass.domain.records import Deletion
from windlass.services.base import ProjectService
from windlass.services.object_limits import require_below_limit


@dataclass(frozen=True)
class ServiceAccounts(ProjectService):
    """Accounts of programs: each has a role in its project and no other rights, and keys of its own."""

    def all(self) -> list[ServiceAccount]:
        """List the service accounts by id."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).service_accounts.all()

    def get(self, name: str) -> ServiceAccount:
        """Return a service account.

        Raises:
            NotFoundError: no service account of that name.
        """
        with self.deps.database.read() as uow:
            return uow.project(self.project).service_accounts.get({"name": name})

    def create(self, name: str, role: Role, description: str) -> ServiceAccount:
        """Create a service account.

        Raises:
            ConflictError: the name is taken.
            LimitReachedError: the project has too many service accounts.
        """
        account = ServiceAccount(
            id=self.deps.new_id("sa"),
            project=self.project,
            name=name,
            role=role,
            description=description,
            created_at=self.deps.clock.now(),
        )
        with self.deps.database.write() as uow:
            accounts, limit = uow.project(self.project).service_accounts, self.deps.limits.service_accounts
            accounts.add(account)
            number, setting = accounts.count() - 1, "WINDLASS_LIMIT_MAX_SERVICE_ACCOUNTS"
            require_below_limit("service accounts", "the project", number, limit, setting)
            self.audit(uow, "service-account.create", account.id, name, self.project, after=account)
        return account

    def set_role(self, name: str, role: Role) -> ServiceAccount:
        """Change the role of a service account.

        Raises:
            NotFoundError: no service account of that name.
        """
        with self.deps.database.write() as uow:
            accounts = uow.project(self.project).service_accounts
            before = accounts.get({"name": name})
            account = accounts.save(before.model_copy(update={"role": role}))
            self.audit(uow, "service-account.update", account.id, name, self.project, before=before, after=account)
        return account

    def delete(self, name: str, *, dry_run: bool = False) -> Deletion:
        """Delete a service account with its keys; ``dry_run`` changes nothing.

        Raises:
            NotFoundError: no service account of that name.
        """
        with self.deps.database.read() as uow:
            account = uow.project(self.project).service_accounts.get({"name": name})
            keys = uow.keys.count({"service_account": account.id})
        if not dry_run:
            with self.deps.database.write() as uow:
                uow.project(self.project).service_accounts.get({"id": account.id})
                uow.keys.delete({"service_account": account.id})
                uow.project(self.project).service_accounts.delete({"id": account.id})
                self.audit(uow, "service-account.delete", account.id, name, self.project, before=account)
        return Deletion(
            kind="service account",
            id=account.id,
            name=name,
            contains={"key": keys} if keys else {},
            consequences=("requests with its keys fail within a minute", "its jobs continue"),
        )
