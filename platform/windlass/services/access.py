"""Authentication by API key, session, token of the identity provider, and run token; authorization."""

import hmac
import re
from dataclasses import dataclass
from datetime import timedelta

from windlass.domain.errors import ForbiddenError, NotFoundError, UnauthenticatedError
from windlass.domain.identity import SessionKind, UserSession
from windlass.domain.projects import ROLES, ApiKey, Member, Permission, Principal, Project, Role
from windlass.domain.transfers import TransferGrant
from windlass.ports import Clock, Database, ReadRepository, ReadUnitOfWork
from windlass.ports.filters import MemberFilter
from windlass.services.keys import KEY_PREFIX
from windlass.services.secrets import SecretHasher
from windlass.services.sign_in import SESSION_PREFIX, SignIn
from windlass.services.transfer_tokens import TransferTokens

RUN_TOKEN_GRACE = timedelta(minutes=1)
"""How long the processes of an ended run may still send late log lines and ask for the run's state."""
TOKEN_CREDENTIAL = "token"  # noqa: S105 - the name of a kind of credential
"""The id of the credential of a principal that a token of the identity provider authenticates."""
_TOKEN = re.compile(r"(?P<prefix>wl[ks])_(?P<public>[0-9a-z]{26})_(?P<secret>[!-~]{1,150})")
_JWT_DOTS = 2


@dataclass(frozen=True)
class AccessControl:
    """Authenticates API keys, sessions, run tokens and transfer tokens, and authorizes principals.

    Args:
        database: stores users, keys, sessions and members.
        clock: ends credentials.
        hasher: hashes secrets.
        transfer_tokens: verifies the tokens of data tasks and model servers.
        sign_in: verifies tokens of the identity provider.
    """

    database: Database
    clock: Clock
    hasher: SecretHasher
    transfer_tokens: TransferTokens
    sign_in: SignIn

    def authenticate(self, token: str) -> Principal:
        """Return the principal of an Authorization header: an API key, a session of the CLI, or a JWT.

        Raises:
            UnauthenticatedError: it is malformed, unknown, expired or revoked; the message is the same for all keys.
            UnavailableError: it is a JWT, and the identity provider does not answer.
        """
        if token.startswith(f"{SESSION_PREFIX}_"):
            return self.authenticate_session(token, SessionKind.CLI)
        if token.count(".") == _JWT_DOTS and not token.startswith(f"{KEY_PREFIX}_"):
            return self._authenticate_jwt(token)
        return self.authenticate_key(token)

    def authenticate_key(self, token: str) -> Principal:
        """Return the principal of an API key. Raises as ``authenticate``."""
        public, secret = _split(token, KEY_PREFIX)
        with self.database.read() as uow:
            key = uow.keys.find({"id": f"key_{public}"})
            # The hash is computed for an unknown key too, so that timing does not reveal which ids exist.
            matches = self._matches(secret, key.secret_hash if key else None)
            principal = self._principal_of_key(uow, key) if key is not None and matches else None
        if principal is None:
            raise _invalid_key()
        return principal

    def authenticate_browser(self, token: str) -> Principal:
        """Return the principal of a browser's cookie. Raises as ``authenticate_session``."""
        return self.authenticate_session(token, SessionKind.BROWSER)

    def authenticate_session(self, token: str, kind: SessionKind) -> Principal:
        """Return the principal of a session.

        Raises:
            UnauthenticatedError: it is malformed, unknown, of another kind, expired or ended.
        """
        public, secret = _split(token, SESSION_PREFIX)
        with self.database.read() as uow:
            session = uow.sessions.find({"id": f"ses_{public}"})
            matches = self._matches(secret, session.secret_hash if session else None)
            principal = (
                self._principal_of_session(uow, session)
                if session is not None and matches and session.kind is kind
                else None
            )
        if principal is None:
            raise UnauthenticatedError("the session is not valid", hint="sign in again")
        return principal

    def _authenticate_jwt(self, token: str) -> Principal:
        account, expires_at = self.sign_in.authenticate_token(token)
        return Principal(
            user=account.name,
            credential=TOKEN_CREDENTIAL,
            groups=account.groups,
            platform_role=self.sign_in.policy.platform_role(account.groups),
            expires_at=expires_at,
        )

    def _matches(self, secret: str, stored: str | None) -> bool:
        return hmac.compare_digest(self.hasher.hash(secret), stored or "0" * 64)

    def _principal_of_key(self, uow: ReadUnitOfWork, key: ApiKey) -> Principal | None:
        """Return the principal of a key; None: it has expired or was revoked, or its user is disabled."""
        if not self._is_valid(key):
            return None
        account = None
        role = None
        if key.service_account is None:
            account = uow.users.find({"name": key.user})
            if account is not None and account.disabled_at is not None:
                return None
        else:
            found = uow.project(key.project or "").service_accounts.find({"id": key.service_account})
            if found is None:
                return None
            role = found.role
        return Principal(
            user=key.user,
            credential=key.id,
            groups=account.groups if account is not None else (),
            service_account_role=role,
            permissions=None if key.permissions is None else frozenset(key.permissions),
            expires_at=key.expires_at,
            key_expires_at=key.expires_at,
            platform_role=key.platform_role,
            project=key.project,
        )

    def _principal_of_session(self, uow: ReadUnitOfWork, session: UserSession) -> Principal | None:
        """Return the principal of a session; None: it has ended, or what it was opened with is not valid any more."""
        if session.ended_at is not None or session.expires_at <= self.clock.now():
            return None
        own = {"credential": session.id, "expires_at": session.expires_at}
        if session.api_key is not None:
            key = uow.keys.find({"id": session.api_key})
            principal = self._principal_of_key(uow, key) if key is not None else None
            return principal.model_copy(update=own) if principal is not None else None
        account = uow.users.find({"name": session.user})
        if account is None or account.disabled_at is not None:
            return None
        role = self.sign_in.policy.platform_role(account.groups)
        return Principal(user=account.name, groups=account.groups, platform_role=role, **own)

    def authorize_project(self, principal: Principal, name: str, permission: Permission) -> tuple[Project, bool]:
        """Return the project of this name and whether the principal has the permission in it.

        Raises:
            NotFoundError: no such project, or the principal is not a member of it; the two are indistinguishable.
        """
        not_found = NotFoundError(f"no project {name}")
        # Also for a project that does not exist: the log of denials would make it answer faster than a hidden one.
        not_found.is_denial = principal.platform_role is None or principal.project is not None
        with self.database.read() as uow:
            own = uow.memberships(principal.user, principal.groups)
            project = uow.projects.find({"name": name})
            if project is None or (principal.project is not None and principal.project != project.id):
                raise not_found
            role = _role(own, project.id, principal)
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
            UnauthenticatedError: the credential was revoked or has expired.
            NotFoundError: the project was deleted, or the user is no member of it any more.
            ForbiddenError: the user's role does not have the permission any more.
        """
        with self.database.read() as uow:
            current = self._current(uow, principal)
        if current is None:
            raise UnauthenticatedError("the API key or session is not valid any more")
        found, granted = self.authorize_project(current, name, permission)
        if found.id != project:
            raise NotFoundError(f"no project {name}")
        if not granted:
            raise ForbiddenError(f"your role in project {name} does not allow {permission} any more")

    def _current(self, uow: ReadUnitOfWork, principal: Principal) -> Principal | None:
        """Return the principal as its credential gives it now; None: the credential is not valid any more."""
        if principal.credential == TOKEN_CREDENTIAL:
            account = uow.users.find({"name": principal.user})
            ended = principal.expires_at is not None and principal.expires_at <= self.clock.now()
            return None if ended or account is None or account.disabled_at is not None else principal
        if principal.credential.startswith("ses_"):
            session = uow.sessions.find({"id": principal.credential})
            return self._principal_of_session(uow, session) if session is not None else None
        key = uow.keys.find({"id": principal.credential})
        return self._principal_of_key(uow, key) if key is not None else None

    def _is_valid(self, key: ApiKey) -> bool:
        return key.revoked_at is None and (key.expires_at is None or key.expires_at > self.clock.now())

    def require_permission(self, principal: Principal, permission: Permission) -> None:
        """Require a permission that no project grants.

        Raises:
            ForbiddenError: the principal does not have it.
        """
        if not principal.may(permission):
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
            stored = uow.find_run(run)
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


def memberships(uow: ReadUnitOfWork, principal: Principal) -> dict[str, Role]:
    """Return the role of a principal by uid of the project, its own one and those of its groups."""
    if principal.service_account_role is not None:
        return {uow.project(principal.project or "").project: principal.service_account_role}
    roles: dict[str, Role] = {}
    for member in uow.memberships(principal.user, principal.groups).all():
        if principal.project in (None, member.project):
            roles[member.project] = max(member.role, roles.get(member.project, member.role), key=ROLES.index)
    return roles


def _role(own: ReadRepository[Member, MemberFilter], project: str, principal: Principal) -> Role | None:
    """Return the role of a principal in a project by its own memberships; None: it is no member."""
    if principal.service_account_role is not None:
        return principal.service_account_role
    roles = [member.role for member in own.all({"project": project})]
    return max(roles, key=ROLES.index, default=None)


def _split(token: str, prefix: str) -> tuple[str, str]:
    """Return the public id and the secret of a token.

    Raises:
        UnauthenticatedError: it is malformed.
    """
    parts = _TOKEN.fullmatch(token)
    if parts is None or parts["prefix"] != prefix:
        raise _invalid_key()
    return parts["public"], parts["secret"]


def _invalid_key() -> UnauthenticatedError:
    return UnauthenticatedError(
        "the API key is not valid",
        hint="send 'Authorization: Bearer <key>' with a key that is neither expired nor revoked",
    )
