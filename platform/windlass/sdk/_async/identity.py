"""Sessions, users and service accounts."""

from collections.abc import Sequence

from windlass.domain.projects import Permission
from windlass.sdk._async.pages import AsyncPaginator
from windlass.sdk._async.resource import AsyncResource
from windlass.sdk._protocol import Request, decode_as, path, validate_body
from windlass.wire.base import DeletionOut
from windlass.wire.identity import (
    CurrentSessionOut,
    ServiceAccountIn,
    ServiceAccountKeyIn,
    ServiceAccountOut,
    ServiceAccountPatch,
    SessionOut,
    SignInLinkOut,
    UserOut,
)
from windlass.wire.projects import KeyOut, NewKeyOut, Role


class AsyncSessions(AsyncResource):
    """The user's sessions."""

    def list(self) -> AsyncPaginator[SessionOut]:
        """List the sessions that have not ended."""
        return self._list(path("sessions"), SessionOut)

    async def current(self) -> CurrentSessionOut:
        """Get the session of the client.

        Raises:
            NotFoundError: the client has a key.
        """
        return await self._get(path("session"), CurrentSessionOut)

    async def create_link(self) -> SignInLinkOut:
        """Create a link that signs a browser in with the rights of the API key of the client: once, within a minute.

        Raises:
            ForbiddenError: the client has no API key.
        """
        request = Request("POST", path("auth", "links"), retry=False)  # a second one would be another link
        return decode_as(SignInLinkOut)(await self._transport.send(request))

    async def end(self, session: str) -> None:
        """End a session of the user."""
        await self._transport.send(Request("DELETE", path("sessions", session)))

    async def sign_out(self) -> None:
        """End the session of the client."""
        await self._transport.send(Request("DELETE", path("session")))


class AsyncUsers(AsyncResource):
    """Users who have signed in by the identity provider."""

    def list(self) -> AsyncPaginator[UserOut]:
        """List the users."""
        return self._list(path("users"), UserOut)

    async def disable(self, user: str) -> UserOut:
        """Refuse the keys, sessions and tokens of a user."""
        return await self._post(path("users", user) + ":disable", UserOut)

    async def enable(self, user: str) -> UserOut:
        """Let a disabled user sign in again."""
        return await self._post(path("users", user) + ":enable", UserOut)


class AsyncServiceAccounts(AsyncResource):
    """Accounts of programs in the project, and their API keys."""

    async def create(self, name: str, role: Role, *, description: str = "") -> ServiceAccountOut:
        """Create a service account."""
        body = validate_body(ServiceAccountIn, name=name, role=role, description=description)
        return await self._post(self._path("service-accounts"), ServiceAccountOut, body)

    def list(self) -> AsyncPaginator[ServiceAccountOut]:
        """List the service accounts of the project."""
        return self._list(self._path("service-accounts"), ServiceAccountOut)

    async def set_role(self, name: str, role: Role) -> ServiceAccountOut:
        """Change the role of a service account."""
        return await self._patch_without_etag(
            self._path("service-accounts", name), ServiceAccountOut, validate_body(ServiceAccountPatch, role=role)
        )

    async def delete(self, name: str, *, dry_run: bool = False) -> DeletionOut:
        """Delete a service account with its keys."""
        query = {"dry_run": dry_run or None}
        return await self._delete_with_result(self._path("service-accounts", name), DeletionOut, query)

    async def create_key(
        self,
        account: str,
        *,
        name: str = "",
        permissions: Sequence[Permission | str] | None = None,
        expires_in_days: int | None = None,
    ) -> NewKeyOut:
        """Create an API key of a service account. Only this response contains its secret."""
        body = validate_body(ServiceAccountKeyIn, name=name, permissions=permissions, expires_in_days=expires_in_days)
        return await self._post(self._path("service-accounts", account, "keys"), NewKeyOut, body)

    def list_keys(self, account: str) -> AsyncPaginator[KeyOut]:
        """List the keys of a service account."""
        return self._list(self._path("service-accounts", account, "keys"), KeyOut)

    async def renew_key(self, account: str, key: str) -> NewKeyOut:
        """Replace a key by one with the same rights and lifetime; the old one expires after an hour."""
        url = self._path("service-accounts", account, "keys", key) + ":renew"
        request = Request("POST", url, retry=False)  # a second one would be another key
        return decode_as(NewKeyOut)(await self._transport.send(request))

    async def revoke_key(self, account: str, key: str, *, dry_run: bool = False) -> DeletionOut:
        """Revoke a key of a service account."""
        query = {"dry_run": dry_run or None}
        url = self._path("service-accounts", account, "keys", key)
        return await self._delete_with_result(url, DeletionOut, query)
