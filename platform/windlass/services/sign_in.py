"""Sign-in of users by an identity provider, and their sessions.

A session token is ``wls_<public id>_<secret>``, as an API key. A browser's sign-in is an authorization code flow with
PKCE (RFC 7636): what it must remember is in a signed cookie, so that requests without credentials store nothing.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from windlass.domain.errors import ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError
from windlass.domain.identity import RESERVED_USERS, IdentityClaims, SessionKind, UserAccount, UserSession
from windlass.domain.ids import USER_NAME_PATTERN
from windlass.domain.projects import PlatformRole, Principal
from windlass.ports import DeviceClient, IdentityProvider, UnitOfWork
from windlass.services.base import SYSTEM, BaseService, Caller, RequestOrigin, ServiceDependencies, record_audit
from windlass.services.object_limits import MAX_REMOVED

SESSION_PREFIX = "wls"
SIGN_IN_LIFETIME = timedelta(minutes=10)
"""How long a user may take at the identity provider."""
LINK_LIFETIME = timedelta(seconds=60)
"""How long the code of a link is valid."""
_REFRESH = timedelta(hours=1)
"""How long a stored sign-in time may be behind; each token of a machine would be a write otherwise."""
_RETURN_TO = re.compile(r"/(?![/\\])[!-~]{0,1000}")


@dataclass(frozen=True)
class SignInPolicy:
    """What a sign-in gives.

    Args:
        platform_roles: platform role by group of the identity provider.
        session_lifetime: how long a session lasts.
        secure_cookies: whether browsers reach this server by https only.
    """

    platform_roles: Mapping[str, PlatformRole] = field(default_factory=dict)
    session_lifetime: timedelta = timedelta(hours=12)
    secure_cookies: bool = False

    def platform_role(self, groups: tuple[str, ...]) -> PlatformRole | None:
        """Return the platform role of a user with these groups."""
        roles = {self.platform_roles[group] for group in groups if group in self.platform_roles}
        return PlatformRole.ADMIN if PlatformRole.ADMIN in roles else next(iter(roles), None)


class _PendingSignIn(BaseModel):
    """What a browser's sign-in remembers until the provider sends the browser back."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: str
    nonce: str
    code_verifier: str
    return_to: str
    expires_at: datetime


@dataclass(frozen=True)
class SignInReply:
    """What the identity provider sends back by the browser; ``issuer`` is empty if the provider does not name it."""

    state: str
    code: str
    issuer: str = ""


@dataclass(frozen=True)
class NewSession:
    """A session with its token, which is not stored."""

    session: UserSession
    token: str


@dataclass(frozen=True)
class SignIn:
    """Signs users in. Nobody is authenticated when it is called."""

    deps: ServiceDependencies
    provider: IdentityProvider | None = None
    policy: SignInPolicy = field(default_factory=SignInPolicy)

    def device_client(self) -> DeviceClient | None:
        """Return what a program needs for the device flow; None: there is no provider, or it does not support it."""
        return self.provider.device_client() if self.provider is not None else None

    def begin(self, return_to: str) -> tuple[str, str]:
        """Begin the sign-in of a browser; return the provider's URL and the content of the cookie.

        Args:
            return_to: path of this server at which the browser ends; another URL is replaced by ``/``.

        Raises:
            NotFoundError: no identity provider is configured.
            UnavailableError: it does not answer.
        """
        pending = _PendingSignIn(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            code_verifier=secrets.token_urlsafe(48),
            return_to=return_to if _RETURN_TO.fullmatch(return_to) else "/",
            expires_at=self.deps.clock.now() + SIGN_IN_LIFETIME,
        )
        digest = hashlib.sha256(pending.code_verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        url = self._require_provider().sign_in_url(state=pending.state, nonce=pending.nonce, code_challenge=challenge)
        payload = base64.urlsafe_b64encode(pending.model_dump_json().encode()).decode()
        return url, f"{payload}.{self.deps.hasher.sign_in_signature(payload)}"

    def finish(self, cookie: str, reply: SignInReply, origin: RequestOrigin) -> tuple[NewSession, str]:
        """Finish the sign-in of a browser; return the session and the path at which the browser ends.

        Raises:
            UnauthenticatedError: it was not begun by this browser, it took too long, or the provider refuses it.
            UnavailableError: the provider does not answer.
        """
        pending = self._read(cookie)
        if pending is None or not hmac.compare_digest(pending.state.encode(), reply.state.encode()):
            raise UnauthenticatedError("this browser has not begun this sign-in", hint="sign in again")
        if pending.expires_at <= self.deps.clock.now():
            raise UnauthenticatedError("the sign-in took too long", hint="sign in again")
        provider = self._require_provider()
        if reply.issuer and reply.issuer != provider.issuer:
            raise UnauthenticatedError("another identity provider answers this sign-in", hint="sign in again")
        claims = provider.redeem_code(reply.code, code_verifier=pending.code_verifier, nonce=pending.nonce)
        return self._open(claims, SessionKind.BROWSER, origin), pending.return_to

    def exchange(self, id_token: str, origin: RequestOrigin) -> NewSession:
        """Open a session of the CLI for an ID token from the device flow. Raises as ``IdentityProvider``."""
        return self._open(self._require_provider().verify_id_token(id_token), SessionKind.CLI, origin)

    def authenticate_token(self, token: str) -> tuple[UserAccount, datetime]:
        """Return the user of an access token, and when the credential must be verified again.

        Raises:
            UnauthenticatedError: it is not valid, or there is no identity provider.
            UnavailableError: the provider does not answer.
        """
        if self.provider is None:
            raise UnauthenticatedError("this server accepts no tokens of an identity provider", hint="use an API key")
        claims = self.provider.verify_access_token(token)
        return self._store(claims, RequestOrigin()), claims.expires_at

    def open_for_key(self, principal: Principal, origin: RequestOrigin) -> NewSession:
        """Open a browser's session with the rights of an API key; it ends with the key at the latest."""
        with self.deps.database.write() as uow:
            return self._add(uow, principal.user, SessionKind.BROWSER, origin, principal)

    def create_link(self, principal: Principal, origin: RequestOrigin) -> NewSession:
        """Create a one-time code with which a browser opens a session with the rights of the API key.

        Raises:
            ForbiddenError: the principal has no API key; a session could prolong itself without end.
        """
        with self.deps.database.write() as uow:
            if uow.keys.find({"id": principal.credential}) is None:
                raise ForbiddenError("only an API key creates sign-in links", hint="sign in with the identity provider")
            return self._add(uow, principal.user, SessionKind.LINK, origin, principal)

    def open_for_link(self, principal: Principal, origin: RequestOrigin) -> NewSession:
        """Open a browser's session for the principal of a link, which is not valid any more.

        Raises:
            UnauthenticatedError: another browser has used the link.
        """
        with self.deps.database.write() as uow:
            link = uow.sessions.get({"id": principal.credential})
            if link.ended_at is not None:
                raise UnauthenticatedError("the link was used already", hint="windlass open")
            uow.sessions.save(link.model_copy(update={"ended_at": self.deps.clock.now()}))
            key = uow.keys.get({"id": link.api_key or ""})
            of_key = principal.model_copy(update={"credential": key.id, "expires_at": key.expires_at})
            return self._add(uow, principal.user, SessionKind.BROWSER, origin, of_key)

    def _require_provider(self) -> IdentityProvider:
        if self.provider is None:
            raise NotFoundError("no identity provider is configured", hint="sign in with an API key")
        return self.provider

    def _read(self, cookie: str) -> _PendingSignIn | None:
        payload, _, signature = cookie.rpartition(".")
        expected = self.deps.hasher.sign_in_signature(payload)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return None
        try:
            return _PendingSignIn.model_validate_json(base64.urlsafe_b64decode(payload))
        except (ValueError, ValidationError):
            return None

    def _open(self, claims: IdentityClaims, kind: SessionKind, origin: RequestOrigin) -> NewSession:
        account = self._store(claims, origin)
        with self.deps.database.write() as uow:
            return self._add(uow, account.name, kind, origin)

    def _add(
        self, uow: UnitOfWork, user: str, kind: SessionKind, origin: RequestOrigin, principal: Principal | None = None
    ) -> NewSession:
        now, secret = self.deps.clock.now(), secrets.token_urlsafe(32)
        end = now + (LINK_LIFETIME if kind is SessionKind.LINK else self.policy.session_lifetime)
        if principal is not None and principal.expires_at is not None:
            end = min(end, principal.expires_at)
        session = UserSession(
            id=self.deps.new_id("ses"),
            user=user,
            kind=kind,
            api_key=principal.credential if principal is not None else None,
            secret_hash=self.deps.hasher.hash(secret),
            created_at=now,
            expires_at=end,
        )
        self._make_room(uow, user, now)
        uow.sessions.add(session)
        action = "session.create-link" if kind is SessionKind.LINK else "session.create"
        key = principal.credential if principal is not None else session.id
        caller = Caller(Principal(user=user, credential=key), origin.request_id, origin.address)
        record_audit(self.deps, uow, caller, action, session.id, user, project=None, change=(None, session))
        return NewSession(session, f"{SESSION_PREFIX}_{session.id.removeprefix('ses_')}_{secret}")

    def _make_room(self, uow: UnitOfWork, user: str, now: datetime) -> None:
        """Remove the oldest sessions of a user beyond the limit, ended ones first, instead of refusing a sign-in."""
        stored = uow.sessions.all({"user": user})
        excess = len(stored) + 1 - self.deps.limits.sessions_per_user
        if excess <= 0:
            return
        excess = min(excess, MAX_REMOVED)
        is_open = {each.id: each.ended_at is None and each.expires_at > now for each in stored}
        removed = sorted(stored, key=lambda each: (is_open[each.id], each.created_at, each.id))[:excess]
        for session in removed:
            if is_open[session.id]:
                change = (session, session.model_copy(update={"ended_at": now}))
                record_audit(self.deps, uow, SYSTEM, "session.end", session.id, user, project=None, change=change)
        uow.sessions.delete({"id": [session.id for session in removed]})

    def _store(self, claims: IdentityClaims, origin: RequestOrigin) -> UserAccount:
        """Store the user and the groups of a verified token; return the account.

        Raises:
            UnauthenticatedError: the name is not acceptable or belongs to another user, or the user is disabled.
        """
        try:
            return self._store_once(claims, origin)
        except ConflictError:  # another request has stored the user since
            return self._store_once(claims, origin)

    def _store_once(self, claims: IdentityClaims, origin: RequestOrigin) -> UserAccount:
        now = self.deps.clock.now()
        with self.deps.database.read() as uow:
            account = uow.users.find({"issuer": claims.issuer, "subject": claims.subject})
        if account is not None:
            _require_enabled(account)
            new = {"groups": claims.groups, "display_name": claims.display_name}
            if all(getattr(account, name) == value for name, value in new.items()) and (
                account.signed_in_at + _REFRESH > now
            ):
                return account
        with self.deps.database.write() as uow:
            account = uow.users.find({"issuer": claims.issuer, "subject": claims.subject})
            before = account
            if account is None:
                account = self._new_account(uow, claims, now)
                action = "user.create"
            else:
                _require_enabled(account)
                update = {"groups": claims.groups, "display_name": claims.display_name, "signed_in_at": now}
                account = uow.users.save(account.model_copy(update=update))
                action = "user.update"
            name = account.name
            caller = Caller(Principal(user=name, credential=""), origin.request_id, origin.address)
            record_audit(self.deps, uow, caller, action, name, name, project=None, change=(before, account))
        return account

    def _new_account(self, uow: UnitOfWork, claims: IdentityClaims, now: datetime) -> UserAccount:
        if not re.fullmatch(USER_NAME_PATTERN, claims.name) or claims.name in RESERVED_USERS:
            raise UnauthenticatedError(
                f"the identity provider gives the name {claims.name[:100]!r}, which is not the name of a user here",
                hint="ask a platform admin to choose another claim: WINDLASS_OIDC_NAME_CLAIM",
            )
        if uow.users.find({"name": claims.name}) is not None:
            raise UnauthenticatedError(
                f"the name {claims.name} belongs to another user of the identity provider", hint="ask a platform admin"
            )
        account = UserAccount(
            name=claims.name,
            issuer=claims.issuer,
            subject=claims.subject,
            display_name=claims.display_name,
            groups=claims.groups,
            created_at=now,
            signed_in_at=now,
        )
        uow.users.add(account)
        return account


def _require_enabled(account: UserAccount) -> None:
    if account.disabled_at is not None:
        raise UnauthenticatedError(f"the user {account.name} is disabled", hint="ask a platform admin")


@dataclass(frozen=True)
class Sessions(BaseService):
    """The caller's sessions."""

    def all(self) -> list[UserSession]:
        """List the sessions that have not ended, oldest first."""
        now = self.deps.clock.now()
        with self.deps.database.read() as uow:
            open_ones = uow.sessions.all({"user": self.caller.principal.user, "ended_at": None})
        return [each for each in open_ones if each.expires_at > now and each.kind is not SessionKind.LINK]

    def current(self) -> UserSession:
        """Return the session of this request.

        Raises:
            NotFoundError: it has none.
        """
        with self.deps.database.read() as uow:
            session = uow.sessions.find({"id": self.caller.principal.credential})
        if session is None:
            raise NotFoundError("this request has no session: it is authenticated by a key or a token")
        return session

    def end(self, session_id: str) -> None:
        """End a session of the caller; idempotent.

        Raises:
            NotFoundError: no such session of the caller.
        """
        user = self.caller.principal.user
        with self.deps.database.write() as uow:
            session = uow.sessions.find({"id": session_id, "user": user})
            if session is None:
                raise NotFoundError.hidden(f"no session {session_id}")
            if session.ended_at is None:
                ended = uow.sessions.save(session.model_copy(update={"ended_at": self.deps.clock.now()}))
                self.audit(uow, "session.end", session.id, user, before=session, after=ended)
