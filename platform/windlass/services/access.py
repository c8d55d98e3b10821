"""Authentication by API key, authorization, and management of keys.

A key is ``wlk_<public id>_<secret>``. The secret has 256 bits of entropy, so a fast hash is sufficient.
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta

from windlass.domain.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, UnauthenticatedError
from windlass.domain.projects import (
    ApiKey,
    Permission,
    PlatformRole,
    Principal,
    Project,
    Role,
    SubjectKind,
)
from windlass.domain.records import Deletion
from windlass.domain.transfers import TransferGrant
from windlass.ports import Clock, Database, ReadUnitOfWork
from windlass.ports.filters import KeyFilter
from windlass.services.base import BaseService
from windlass.services.secrets import SecretHasher
from windlass.services.transfer_tokens import TransferTokens

_PREFIX = "wlk"
_MAX_TOKEN_LENGTH = 200
_GIVEN_TOKEN = re.compile(r"wlk_(?P<public>[0-9a-z]{26})_(?P<secret>[0-9A-Za-z_-]{32,128})")
"""A token that an installation chooses."""
RENEWAL_OVERLAP = timedelta(hours=1)
"""How long a renewed key stays valid beside the new one."""
RUN_TOKEN_GRACE = timedelta(minutes=1)
"""How long the processes of an ended run may still send late log lines and ask for the run's state."""


@dataclass(frozen=True)
class AccessControl:
    """Authenticates API keys, run tokens and transfer tokens, and authorizes principals."""

    database: Database
    clock: Clock
    hasher: SecretHasher
    transfer_tokens: TransferTokens

    def authenticate(self, token: str) -> Principal:
        """Return the principal of an API key.

        Raises:
            UnauthenticatedError: the key is malformed, unknown, expired or revoked; the message is the same for all.
        """
        invalid = UnauthenticatedError(
            "the API key is not valid",
            hint="send 'Authorization: Bearer <key>' with a key that is neither expired nor revoked",
        )
        prefix, _, rest = token.partition("_")
        public, _, secret = rest.partition("_")
        if prefix != _PREFIX or not secret or len(token) > _MAX_TOKEN_LENGTH or not token.isascii():
            raise invalid
        with self.database.read() as uow:
            key = uow.keys.find({"id": f"key_{public}"})
        # The hash is computed for an unknown key too, so that timing does not reveal which ids exist.
        matches = hmac.compare_digest(self.hasher.hash(secret), key.secret_hash if key else "0" * 64)
        if key is None or not matches or not self._is_valid(key):
            raise invalid
        return Principal(user=key.user, credential=key.id, platform_role=key.platform_role, project=key.project)

    def authorize_project(self, principal: Principal, name: str, permission: Permission) -> tuple[Project, bool]:
        """Return the project of this name and whether the principal has the permission in it.

        Raises:
            NotFoundError: no such project, or the principal is not a member of it; the two are indistinguishable.
        """
        not_found = NotFoundError(f"no project {name}")
        with self.database.read() as uow:
            project = uow.projects.find({"name": name})
            if project is None or (principal.project is not None and principal.project != project.id):
                raise not_found
            role = _role(uow, project.id, principal)
        if role is None and principal.platform_role is None:
            raise not_found
        return project, principal.may(permission, role)

    def recheck(self, principal: Principal, name: str, project: str, permission: Permission) -> None:
        """Check again what was authorized when a long response began.

        Args:
            principal: the authenticated user.
            name: the name of the project.
            project: its id; a project that was created again under this name is another one.
            permission: the permission that the response needs.

        Raises:
            UnauthenticatedError: the key was revoked or has expired.
            NotFoundError: the project was deleted, or the user is no member of it any more.
            ForbiddenError: the user's role does not have the permission any more.
        """
        with self.database.read() as uow:
            key = uow.keys.find({"id": principal.credential})
        if key is None or not self._is_valid(key):
            raise UnauthenticatedError("the API key is not valid any more")
        current, granted = self.authorize_project(principal, name, permission)
        if current.id != project:
            raise NotFoundError(f"no project {name}")
        if not granted:
            raise ForbiddenError(f"your role in project {name} does not allow {permission} any more")

    def _is_valid(self, key: ApiKey) -> bool:
        return key.revoked_at is None and (key.expires_at is None or key.expires_at > self.clock.now())

    def is_allowed(self, principal: Principal, permission: Permission) -> bool:
        """Return whether the principal has a permission that no project grants."""
        return principal.may(permission)

    def require_permission(self, principal: Principal, permission: Permission) -> None:
        """Require a permission that no project grants.

        Raises:
            ForbiddenError: the principal does not have it.
        """
        if not self.is_allowed(principal, permission):
            raise ForbiddenError(f"your platform role does not allow {permission}", hint="ask a platform admin")

    def run_token(self, run: str) -> str:
        """Return the token of a run."""
        return self.hasher.run_token(run)

    def authenticate_run(self, run: str, token: str) -> None:
        """Verify the token of a run; it expires ``RUN_TOKEN_GRACE`` after the run's end.

        Raises:
            UnauthenticatedError: it is not this run's token, or the run has ended or was deleted.
        """
        if not hmac.compare_digest(self.run_token(run).encode(), token.encode()):
            raise UnauthenticatedError("the run token is not valid")
        with self.database.read() as uow:
            stored = uow.all_projects().runs.find({"id": run})
        if stored is None or (stored.ended_at and stored.ended_at + RUN_TOKEN_GRACE <= self.clock.now()):
            raise UnauthenticatedError("the run has ended, and its token with it")

    def authenticate_warm_trainer(self, project: str, name: str, token: str) -> None:
        """Verify the token of a warm trainer.

        Raises:
            UnauthenticatedError: it is not the token of this warm trainer.
        """
        if not hmac.compare_digest(self.hasher.warm_trainer_token(project, name).encode(), token.encode()):
            raise UnauthenticatedError("the token of the warm trainer is not valid")

    def authenticate_transfer(self, token: str) -> TransferGrant:
        """Return what a transfer token grants.

        Raises:
            UnauthenticatedError: it is not valid, or has expired.
        """
        return self.transfer_tokens.verify(token)


def _role(uow: ReadUnitOfWork, project: str, principal: Principal) -> Role | None:
    """Return the role of a principal as a member of a project; None: it is no member."""
    member = uow.project(project).members.find({"kind": SubjectKind.USER, "name": principal.user})
    return member.role if member is not None else None


def _token(key: ApiKey, secret: str) -> str:
    return f"{_PREFIX}_{key.id.removeprefix('key_')}_{secret}"


@dataclass(frozen=True)
class Keys(BaseService):
    """API keys. Platform admins manage all keys; a user lists, renews and revokes the user's own keys.

    A key never gives access to keys with more rights: one that is restricted to a project manages only keys with the
    same restriction, and only an admin key manages admin keys.
    """

    def create(
        self,
        user: str,
        *,
        name: str = "",
        platform_role: PlatformRole | None = None,
        project: str | None = None,
        days: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key and return it with its secret, which is not stored.

        Raises:
            NotFoundError: no project of that name.
            ConflictError: a key with a platform role cannot be restricted to a project.
        """
        if platform_role is not None and project is not None:
            raise ConflictError(
                "a key with a platform role cannot be restricted to a project",
                hint="omit either platform_role or project",
            )
        now = self.deps.clock.now()
        secret = secrets.token_urlsafe(32)
        with self.deps.database.write() as uow:
            key = ApiKey(
                id=self.deps.new_id("key"),
                user=user,
                name=name,
                platform_role=platform_role,
                project=uow.projects.get({"name": project}).id if project is not None else None,
                secret_hash=self.deps.hasher.hash(secret),
                created_at=now,
                expires_at=now + timedelta(days=days) if days is not None else None,
            )
            uow.keys.add(key)
            self.audit(uow, "key.create", key.id, key.label, key.project)
        return key, _token(key, secret)

    def ensure_admin(self, token: str, *, name: str) -> None:
        """Create the admin key with this token unless it exists; replicas may do this at the same time.

        A key that was revoked stays revoked.

        Raises:
            InvalidError: the token is malformed, or the key exists with another secret.
        """
        parts = _GIVEN_TOKEN.fullmatch(token)
        if parts is None:
            raise InvalidError(
                "WINDLASS_SECRETS_ADMIN_KEY is not an API key",
                hint="it is wlk_, 26 lower-case letters or digits, _, and at least 32 letters or digits",
            )
        key = ApiKey(
            id=f"key_{parts['public']}",
            user="admin",
            name=name,
            platform_role=PlatformRole.ADMIN,
            secret_hash=self.deps.hasher.hash(parts["secret"]),
            created_at=self.deps.clock.now(),
        )
        try:
            with self.deps.database.write() as uow:
                stored = uow.keys.find({"id": key.id})
                if stored is None:
                    uow.keys.add(key)
                    self.audit(uow, "key.create", key.id, key.label, key.project)
        except ConflictError:  # another replica has created it since
            with self.deps.database.read() as uow:
                stored = uow.keys.get({"id": key.id})
        if stored is not None and not hmac.compare_digest(stored.secret_hash, key.secret_hash):
            raise InvalidError(
                f"{key.id} exists with another secret, or its hash was made with another pepper",
                hint="restore WINDLASS_SECRETS_PEPPER and WINDLASS_SECRETS_ADMIN_KEY, or choose a key with another id",
            )

    def renew(self, key_id: str) -> tuple[ApiKey, str]:
        """Replace a valid key: create one with the same user, rights and lifetime, and let the old one expire soon.

        The old key is valid for another hour, so that a lost reply locks nobody out.

        Raises:
            NotFoundError: no such key, or the caller may not manage it.
            ConflictError: the key has expired or was revoked.
        """
        now = self.deps.clock.now()
        secret = secrets.token_urlsafe(32)
        with self.deps.database.write() as uow:
            old = self._manageable(uow, key_id)
            if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
                raise ConflictError(f"{key_id} has expired or was revoked", hint="ask a platform admin for a new key")
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            update = {
                "id": self.deps.new_id("key"),
                "secret_hash": self.deps.hasher.hash(secret),
                "created_at": now,
                "expires_at": None if lifetime is None else now + lifetime,
            }
            new = old.model_copy(update=update)
            overlap_end = now + RENEWAL_OVERLAP
            old_end = overlap_end if old.expires_at is None else min(old.expires_at, overlap_end)
            uow.keys.save(old.model_copy(update={"expires_at": old_end}))
            uow.keys.add(new)
            self.audit(uow, "key.renew", new.id, new.label, new.project)
        return new, _token(new, secret)

    def page(self, limit: int, after: str | None) -> list[ApiKey]:
        """List the keys that the caller may manage, newest first."""
        principal = self.caller.principal
        where: KeyFilter = {}
        if not principal.is_platform_admin:
            where = {"user": principal.user, "platform_role": {None, principal.platform_role}}
            where |= {} if principal.project is None else {"project": principal.project}
        with self.deps.database.read() as uow:
            return uow.keys.page(limit, after, where, newest_first=True)

    def project_names(self) -> dict[str, str]:
        """Return the names of the projects by uid."""
        with self.deps.database.read() as uow:
            return {project.id: project.name for project in uow.projects.all()}

    def _manageable(self, uow: ReadUnitOfWork, key_id: str) -> ApiKey:
        """Return a key that the caller may renew and revoke.

        Raises:
            NotFoundError: no such key, or not manageable; the two are indistinguishable.
        """
        key, principal = uow.keys.get({"id": key_id}), self.caller.principal
        own = (
            key.user == principal.user
            and key.platform_role in (None, principal.platform_role)
            and principal.project in (None, key.project)
        )
        if not principal.is_platform_admin and not own:
            raise NotFoundError(f"no key {key_id}")
        return key

    def revoke(self, key_id: str, *, force: bool = False, dry_run: bool = False) -> Deletion:
        """Revoke a key; idempotent. ``dry_run`` changes nothing.

        Raises:
            NotFoundError: no such key.
            ConflictError: it is the key of this request or the last admin key, and ``force`` is not set.
        """
        with self.deps.database.read() as uow:
            key = self._revocable(uow, key_id, force=force)
        if not dry_run and key.revoked_at is None:
            with self.deps.database.write() as uow:
                key = self._revocable(uow, key_id, force=force)
                uow.keys.save(key.model_copy(update={"revoked_at": self.deps.clock.now()}))
                self.audit(uow, "key.revoke", key.id, key.label, key.project)
        consequences = ("requests with this key fail within a minute",)
        return Deletion(kind="key", id=key.id, name=key.label, consequences=consequences)

    def _revocable(self, uow: ReadUnitOfWork, key_id: str, *, force: bool) -> ApiKey:
        """Return a key that may be revoked, or is. Raises as ``revoke``."""
        key = self._manageable(uow, key_id)
        if key.revoked_at is None and not force:
            self._require_replaceable(uow, key)
        return key

    def _require_replaceable(self, uow: ReadUnitOfWork, key: ApiKey) -> None:
        if key.id == self.caller.principal.credential:
            raise ConflictError(
                f"{key.id} is the key of this request",
                hint="use another key, or set force: `windlass key revoke --force`",
            )
        if key.platform_role is not PlatformRole.ADMIN:
            return
        now = self.deps.clock.now()
        admins = uow.keys.all({"platform_role": PlatformRole.ADMIN, "revoked_at": None})
        if not any(other.id != key.id and (other.expires_at is None or other.expires_at > now) for other in admins):
            raise ConflictError(
                f"{key.id} is the last admin key; without it nobody can create keys",
                hint="create another admin key first, or set force: `windlass key revoke --force`",
            )
