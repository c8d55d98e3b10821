"""Users who have signed in by the identity provider."""

from dataclasses import dataclass

from windlass.domain.errors import ConflictError
from windlass.domain.identity import UserAccount
from windlass.services.base import BaseService


@dataclass(frozen=True)
class Users(BaseService):
    """List, disable and enable users."""

    def page(self, limit: int, after: str | None) -> list[UserAccount]:
        """List the users by name."""
        with self.deps.database.read() as uow:
            return uow.users.page(limit, after)

    def set_disabled(self, name: str, *, disabled: bool) -> UserAccount:
        """Disable a user, whose keys, sessions and tokens are then refused, or enable it again; idempotent.

        Raises:
            NotFoundError: no user of this name has signed in.
            ConflictError: it is the caller.
        """
        if disabled and name == self.caller.principal.user:
            raise ConflictError("you cannot disable yourself", hint="ask another platform admin")
        now = self.deps.clock.now()
        with self.deps.database.write() as uow:
            account = uow.users.get({"name": name})
            if (account.disabled_at is not None) is disabled:
                return account
            before = account
            account = uow.users.save(before.model_copy(update={"disabled_at": now if disabled else None}))
            if disabled:
                for session in uow.sessions.all({"user": name, "ended_at": None}):
                    uow.sessions.save(session.model_copy(update={"ended_at": now}))
            action = "user.disable" if disabled else "user.enable"
            self.audit(uow, action, name, name, before=before, after=account)
        return account
