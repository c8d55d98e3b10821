"""API keys and what they open. A key is ``wlk_<public id>_<secret>``; the secret's 256 bits need no slow hash."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

from windlass.domain.errors import ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError
from windlass.domain.projects import ANY_USER, GRANTS, ApiKey, Permission, Principal, Project, Role
from windlass.ports import Clock, Database
from windlass.services.backing import UseCases

_PREFIX = "wlk"
_LONGEST = 200


def _hash(pepper: bytes, secret: str) -> str:
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Gatekeeper:
    """Turns credentials into principals and run ids, and answers what a principal may do."""

    database: Database
    clock: Clock
    pepper: bytes

    def principal(self, token: str) -> Principal:
        """Return who holds the key.

        Raises:
            UnauthenticatedError: malformed, unknown, expired or revoked; the message does not say which.
        """
        refused = UnauthenticatedError(
            "the API key is not valid",
            hint="send 'Authorization: Bearer <key>' with a key that is neither expired nor revoked",
        )
        prefix, _, rest = token.partition("_")
        public, _, secret = rest.partition("_")
        if prefix != _PREFIX or not secret or len(token) > _LONGEST or not token.isascii():
            raise refused
        with self.database.read() as work:
            key = work.keys.find(id=f"key_{public}")
        # The hash is computed for an unknown key too, so that time does not tell which ids exist.
        matches = hmac.compare_digest(_hash(self.pepper, secret), key.secret_hash if key else "0" * 64)
        now = self.clock.now()
        if key is None or not matches or key.revoked_at or (key.expires_at and key.expires_at <= now):
            raise refused
        return Principal(user=key.user, key=key.id, admin=key.admin, project=key.project)

    def enter(self, principal: Principal, name: str, permission: Permission) -> tuple[Project, bool]:
        """Return the project of this name and whether the permission is granted there.

        Raises:
            NotFoundError: no such project, or the principal has no business in it: the two look the same.
        """
        hidden = NotFoundError(f"no project {name}")
        with self.database.read() as work:
            project = work.projects.find(name=name)
            if project is None or (principal.project is not None and principal.project != project.id):
                raise hidden
            member = work.of(project.id).members.find(user=principal.user)
        if principal.admin:
            return project, True
        if member is None:
            raise hidden
        return project, permission in GRANTS[Role(member.role)]

    def may(self, principal: Principal, permission: Permission) -> bool:
        """Tell whether the principal may do this outside of projects."""
        return permission in ANY_USER or (principal.admin and principal.project is None)

    def require(self, principal: Principal, permission: Permission) -> None:
        """Refuse unless the principal may do this outside of projects.

        Raises:
            ForbiddenError: it may not.
        """
        if not self.may(principal, permission):
            raise ForbiddenError(f"{permission} is for platform admins", hint="use an admin key")

    def run_token(self, run: str) -> str:
        """Return the token of a run: derived, so that submitting a run again gives the same one and none is stored."""
        return "wlr_" + hmac.new(self.pepper, b"run:" + run.encode(), hashlib.sha256).hexdigest()

    def check_run_token(self, run: str, token: str) -> None:
        """Accept the token of this run alone.

        Raises:
            UnauthenticatedError: it is another's.
        """
        if not hmac.compare_digest(self.run_token(run).encode(), token.encode()):
            raise UnauthenticatedError("the run token is not valid")


@dataclass(frozen=True)
class Keys(UseCases):
    """Make, list and revoke keys: platform admins only."""

    pepper: bytes

    def create(
        self, user: str, *, name: str = "", admin: bool = False, project: str | None = None, days: int | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key and return it with its secret text, which is kept nowhere.

        Raises:
            NotFoundError: no project of that name to confine it to.
            ConflictError: an admin key cannot be confined to a project.
        """
        if admin and project is not None:
            raise ConflictError("an admin key reaches every project", hint="leave out either admin or project")
        now = self.backing.clock.now()
        secret = secrets.token_urlsafe(32)
        with self.backing.database.write() as work:
            key = ApiKey(
                id=self.backing.new_id("key"),
                user=user,
                name=name,
                admin=admin,
                project=work.projects.get(name=project).id if project is not None else None,
                secret_hash=_hash(self.pepper, secret),
                created_at=now,
                expires_at=now + timedelta(days=days) if days is not None else None,
            )
            work.keys.add(key)
            self.audit(work, "key.create", key.id, key.project)
        return key, f"{_PREFIX}_{key.id.removeprefix('key_')}_{secret}"

    def page(self, limit: int, after: str | None) -> list[ApiKey]:
        """List keys, newest first."""
        with self.backing.database.read() as work:
            return work.keys.page(limit, after, newest_first=True)

    def revoke(self, key_id: str) -> None:
        """Make a key useless; revoking it again is a no-op."""
        with self.backing.database.write() as work:
            key = work.keys.get(id=key_id)
            if key.revoked_at is None:
                work.keys.save(key.model_copy(update={"revoked_at": self.backing.clock.now()}))
                self.audit(work, "key.revoke", key_id, key.project)
