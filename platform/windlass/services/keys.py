"""API keys.

A key is ``wlk_<public id>_<secret>``. The secret has 256 bits of entropy, so a fast hash is sufficient.
"""

import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from windlass.domain.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from windlass.domain.identity import ServiceAccount, service_account_user
from windlass.domain.projects import ApiKey, Permission, PlatformRole, Project
from windlass.domain.records import Deletion
from windlass.ports import ReadUnitOfWork, UnitOfWork
from windlass.ports.filters import KeyFilter
from windlass.services.base import BaseService
from windlass.services.object_limits import MAX_REMOVED, require_below_limit
from windlass.services.transactions import repeat_on_conflict

KEY_PREFIX = "wlk"
_GIVEN_TOKEN = re.compile(r"wlk_(?P<public>[0-9a-z]{26})_(?P<secret>[0-9A-Za-z_-]{32,128})")
"""A token that an installation chooses."""
RENEWAL_OVERLAP = timedelta(hours=1)
"""How long a renewed key stays valid beside the new one."""


def _sorted(permissions: Collection[Permission] | None) -> tuple[Permission, ...] | None:
    return None if permissions is None else tuple(sorted(set(permissions)))


def _token(key: ApiKey, secret: str) -> str:
    return f"{KEY_PREFIX}_{key.id.removeprefix('key_')}_{secret}"


@dataclass(frozen=True)
class Keys(BaseService):
    """API keys. Platform admins manage all keys; a user creates, lists, renews and revokes the user's own keys.

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
        permissions: Collection[Permission] | None = None,
        days: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key and return it with its secret, which is not stored.

        Users create keys for themselves, with no more rights and no longer than the credential of the request.

        Args:
            user: the user that it authenticates.
            name: display name.
            platform_role: role on the whole platform; None: none.
            project: name of the project that it is restricted to; None: unrestricted.
            permissions: its only permissions; None: all that the user has.
            days: lifetime; None: it does not expire.

        Raises:
            ForbiddenError: the caller may not create this key.
            NotFoundError: no project of that name.
            ConflictError: a key with a platform role cannot be restricted to a project.
            LimitReachedError: the user has too many valid keys.
        """
        if platform_role is not None and project is not None:
            raise ConflictError(
                "a key with a platform role cannot be restricted to a project",
                hint="omit either platform_role or project",
            )
        now = self.deps.clock.now()
        with self.deps.database.write() as uow:
            self._open(uow)
            key = ApiKey(
                id=self.deps.new_id("key"),
                user=user,
                name=name,
                platform_role=platform_role,
                project=self._project_of(uow, project) if project is not None else None,
                permissions=_sorted(permissions),
                secret_hash="",
                created_at=now,
                expires_at=now + timedelta(days=days) if days is not None else None,
            )
            self._require_creatable(key)
            return self._add(uow, key)

    def create_for_service_account(
        self,
        project: Project,
        account: ServiceAccount,
        *,
        name: str = "",
        permissions: Collection[Permission] | None = None,
        days: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key of a service account, for its project only. The arguments are those of ``create``."""
        now = self.deps.clock.now()
        with self.deps.database.write() as uow:
            uow.project(project.id).service_accounts.get({"id": account.id})  # it may have been deleted since
            key = ApiKey(
                id=self.deps.new_id("key"),
                user=service_account_user(project.name, account.name),
                name=name,
                project=project.id,
                service_account=account.id,
                permissions=_sorted(permissions),
                secret_hash="",
                created_at=now,
                expires_at=now + timedelta(days=days) if days is not None else None,
            )
            return self._add(uow, key)

    def _project_of(self, uow: ReadUnitOfWork, name: str) -> str:
        """Return the uid of a project that the caller may see.

        Raises:
            NotFoundError: there is none; for a caller that may not see it, too.
        """
        project, principal = uow.projects.get({"name": name}), self.caller.principal
        is_member = principal.service_account_role is not None or bool(
            uow.memberships(principal.user, principal.groups).all({"project": project.id})
        )
        if not is_member and principal.platform_role is None:
            raise NotFoundError(f"no project {name}")
        return project.id

    def _add(self, uow: UnitOfWork, key: ApiKey) -> tuple[ApiKey, str]:
        self._make_room(uow, key.user)
        secret = secrets.token_urlsafe(32)
        key = key.model_copy(update={"secret_hash": self.deps.hasher.hash(secret)})
        uow.keys.add(key)
        self.audit(uow, "key.create", key.id, key.label, key.project, after=key)
        return key, _token(key, secret)

    def _make_room(self, uow: UnitOfWork, user: str) -> None:
        """Require that a user may have one more valid key; a renewed key counts until it expires.

        The oldest of the other keys are deleted, so that the keys that are created and revoked in a loop stay few.
        """
        now, limit = self.deps.clock.now(), self.deps.limits.keys_per_user
        keys = uow.keys.all({"user": user})
        valid = {key.id for key in keys if key.revoked_at is None and (key.expires_at is None or key.expires_at > now)}
        require_below_limit("valid keys", f"user {user}", len(valid), limit, "WINDLASS_LIMIT_MAX_KEYS_PER_USER")
        # A key of the settings that was revoked would be created again by the next start.
        ended = (key for key in keys if key.id not in valid and key.platform_role is None)
        oldest = sorted(ended, key=lambda key: (key.created_at, key.id))
        if excess := min(max(0, len(oldest) - limit), MAX_REMOVED):
            uow.keys.delete({"id": [key.id for key in oldest[:excess]]})

    def _require_creatable(self, key: ApiKey) -> None:
        """Require that the caller may create a key. Raises as ``create``."""
        principal = self.caller.principal
        if principal.may(Permission.KEYS_WRITE):
            return
        if key.user != principal.user or key.platform_role is not None:
            raise ForbiddenError("only platform admins create keys for other users, and keys with a platform role")
        if principal.service_account_role is not None:
            raise ForbiddenError(
                "a service account creates no keys", hint="renew its key, or ask an admin of its project for a new one"
            )
        if principal.project is not None and key.project != principal.project:
            raise ForbiddenError("your key is restricted to a project", hint="restrict the new key to it too")
        if principal.permissions is not None and not principal.permissions >= frozenset(key.permissions or Permission):
            raise ForbiddenError("your key does not have these permissions", hint="leave out those it does not have")
        # A key that expires must not give one that does not, not by a session either.
        end = principal.key_expires_at
        if end is not None and (key.expires_at is None or key.expires_at > end):
            raise ForbiddenError("the new key would expire after the key of this request", hint="set expires_in_days")

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
        stored = repeat_on_conflict(partial(self._find_or_add, key))
        if not hmac.compare_digest(stored.secret_hash, key.secret_hash):
            raise InvalidError(
                f"{key.id} exists with another secret, or its hash was made with another pepper",
                hint="restore WINDLASS_SECRETS_PEPPER and WINDLASS_SECRETS_ADMIN_KEY, or choose a key with another id",
            )

    def _find_or_add(self, key: ApiKey) -> ApiKey:
        try:
            with self.deps.database.write() as uow:
                uow.platform()
                stored = uow.keys.find({"id": key.id})
                if stored is None:
                    uow.keys.add(key)
                    self.audit(uow, "key.create", key.id, key.label, key.project, after=key)
        except ConflictError:  # another replica has created it since
            with self.deps.database.read() as uow:
                stored = uow.keys.get({"id": key.id})
        return stored or key

    def renew(self, key_id: str, account: ServiceAccount | None = None) -> tuple[ApiKey, str]:
        """Replace a valid key: create one with the same user, rights and lifetime, and let the old one expire soon.

        The old key is valid for another hour, so that a lost reply locks nobody out.

        Args:
            key_id: the key.
            account: the service account whose keys the caller manages; None: the caller's own keys.

        Raises:
            NotFoundError: no such key, or the caller may not manage it.
            ConflictError: the key has expired or was revoked.
            LimitReachedError: the user has too many valid keys.
        """
        now = self.deps.clock.now()
        secret = secrets.token_urlsafe(32)
        with self.deps.database.write() as uow:
            old = self._manageable(uow, key_id, account)
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
            self._make_room(uow, old.user)
            uow.keys.save(old.model_copy(update={"expires_at": old_end}))
            uow.keys.add(new)
            self.audit(uow, "key.renew", new.id, new.label, new.project, before=old, after=new)
        return new, _token(new, secret)

    def of_service_account(self, account: ServiceAccount, limit: int, after: str | None) -> list[ApiKey]:
        """List the keys of a service account, newest first."""
        with self.deps.database.read() as uow:
            self._open(uow, account)
            return uow.keys.page(limit, after, {"service_account": account.id}, newest_first=True)

    def page(self, limit: int, after: str | None) -> list[ApiKey]:
        """List the keys that the caller may manage, newest first."""
        principal = self.caller.principal
        where: KeyFilter = {}
        if not principal.may(Permission.KEYS_WRITE):
            where = {"user": principal.user, "platform_role": {None, principal.platform_role}}
            where |= {} if principal.project is None else {"project": principal.project}
        with self.deps.database.read() as uow:
            self._open(uow)
            return uow.keys.page(limit, after, where, newest_first=True)

    def project_names(self) -> dict[str, str]:
        """Return the names of the projects by uid."""
        with self.deps.database.read() as uow:
            self._open(uow)
            return {project.id: project.name for project in uow.projects.all()}

    def _open(self, uow: ReadUnitOfWork, account: ServiceAccount | None = None) -> None:
        """Open to the transaction the keys that the caller may manage: of a service account, all, or its own."""
        principal = self.caller.principal
        if account is not None:
            uow.project(account.project)
        elif principal.may(Permission.KEYS_WRITE):
            uow.platform()
        else:
            uow.memberships(principal.user, principal.groups)

    def _manageable(self, uow: ReadUnitOfWork, key_id: str, account: ServiceAccount | None) -> ApiKey:
        """Return a key that the caller may renew and revoke.

        Raises:
            NotFoundError: no such key, or not manageable; the two are indistinguishable.
        """
        self._open(uow, account)
        principal = self.caller.principal
        if account is None and principal.may(Permission.KEYS_WRITE):
            return uow.keys.get({"id": key_id})
        key = uow.keys.find({"id": key_id})
        if account is not None:
            if key is None or key.service_account != account.id:
                raise NotFoundError(f"no key {key_id}")
        elif key is None or not (
            key.user == principal.user
            and key.platform_role in (None, principal.platform_role)
            and principal.project in (None, key.project)
            and (principal.permissions is None or principal.permissions >= frozenset(key.permissions or Permission))
        ):
            raise NotFoundError.hidden(f"no key {key_id}")
        return key

    def revoke(
        self, key_id: str, account: ServiceAccount | None = None, *, force: bool = False, dry_run: bool = False
    ) -> Deletion:
        """Revoke a key; idempotent. ``dry_run`` changes nothing; ``account`` as for ``renew``.

        Raises:
            NotFoundError: no such key.
            ConflictError: it is the key of this request or the last admin key, and ``force`` is not set.
        """
        with self.deps.database.read() as uow:
            key = self._revocable(uow, key_id, account, force=force)
        if not dry_run and key.revoked_at is None:
            with self.deps.database.write() as uow:
                key = self._revocable(uow, key_id, account, force=force)
                revoked = uow.keys.save(key.model_copy(update={"revoked_at": self.deps.clock.now()}))
                self.audit(uow, "key.revoke", key.id, key.label, key.project, before=key, after=revoked)
        consequences = ("requests with this key fail within a minute",)
        return Deletion(kind="key", id=key.id, name=key.label, consequences=consequences)

    def _revocable(self, uow: ReadUnitOfWork, key_id: str, account: ServiceAccount | None, *, force: bool) -> ApiKey:
        """Return a key that may be revoked, or is. Raises as ``revoke``."""
        key = self._manageable(uow, key_id, account)
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
