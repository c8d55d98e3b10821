# Generated from _async/identity.py by docs/generate_sync_sdk.py; do not edit.
"""Sessions, users and service accounts."""

from collections.abc import Sequence

from windlass.domain.projects import Permission
from windlass.sdk._protocol import Request, decode_as, path, validate_body
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk._sync.resource import Resource
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


class Sessions(Resource):
    """The user's sessions."""

    def list(self) -> CursorPage[SessionOut]:
        """List the sessions that have not ended."""
        return self._list(path("sessions"), SessionOut)

    def current(self) -> CurrentSessionOut:
        """Get the session of the client.

        Raises:
            NotFoundError: the client has a key.
        """
        return self._get(path("session"), CurrentSessionOut)

    def create_link(self) -> SignInLinkOut:
        """Create a link that signs a browser in with the rights of the API key of the client: once, within a minute.

        Raises:
            ForbiddenError: the client has no API key.
        """
        request = Request("POST", path("auth", "links"), retry=False)  # a second one would be another link
        return decode_as(SignInLinkOut)(self._transport.send(request))

    def end(self, session: str) -> None:
        """End a session of the user."""
        self._transport.send(Request("DELETE", path("sessions", session)))

    def sign_out(self) -> None:
        """End the session of the client."""
        self._transport.send(Request("DELETE", path("session")))


class Users(Resource):
    """Users who have signed in by the identity provider."""

    def list(self) -> CursorPage[UserOut]:
        """List the users."""
        return self._list(path("users"), UserOut)

    def disable(self, user: str) -> UserOut:
        """Refuse the keys, sessions and tokens of a user."""
        return self._post(path("users", user) + ":disable", UserOut)

    def enable(self, user: str) -> UserOut:
        """Let a disabled user sign in again."""
        return self._post(path("users", user) + ":enable", UserOut)


class ServiceAccounts(Resource):
    """Accounts of programs in the project, and their API keys."""

    def create(self, name: str, role: Role, *, description: str = "") -> ServiceAccountOut:
        """Create a service account."""
        body = validate_body(ServiceAccountIn, name=name, role=role, description=description)
        return self._post(self._path("service-accounts"), ServiceAccountOut, body)

    def list(self) -> CursorPage[ServiceAccountOut]:
        """List the service accounts of the project."""
        return self._list(self._path("service-accounts"), ServiceAccountOut)

    def set_role(self, name: str, role: Role) -> ServiceAccountOut:
        """Change the role of a service account."""
        return self._patch_without_etag(
            self._path("service-accounts", name), ServiceAccountOut, validate_body(ServiceAccountPatch, role=role)
        )

    def delete(self, name: str, *, dry_run: bool = False) -> DeletionOut:
        """Delete a service account with its keys."""
        query = {"dry_run": dry_run or None}
        return self._delete_with_result(self._path("service-accounts", name), DeletionOut, query)

    def create_key(
        self,
        account: str,
        *,
        name: str = "",
        permissions: Sequence[Permission | str] | None = None,
        expires_in_days: int | None = None,
    ) -> NewKeyOut:
        """Create an API key of a service account. Only this response contains its secret."""
        body = validate_body(ServiceAccountKeyIn, name=name, permissions=permissions, expires_in_days=expires_in_days)
        return self._post(self._path("service-accounts", account, "keys"), NewKeyOut, body)

    def list_keys(self, account: str) -> CursorPage[KeyOut]:
        """List the keys of a service account."""
        return self._list(self._path("service-accounts", account, "keys"), KeyOut)

    def renew_key(self, account: str, key: str) -> NewKeyOut:
        """Replace a key by one with the same rights and lifetime; the old one expires after an hour."""
        url = self._path("service-accounts", account, "keys", key) + ":renew"
        request = Request("POST", url, retry=False)  # a second one would be another key
        return decode_as(NewKeyOut)(self._transport.send(request))

    def revoke_key(self, account: str, key: str, *, dry_run: bool = False) -> DeletionOut:
        """Revoke a key of a service account."""
        query = {"dry_run": dry_run or None}
        url = self._path("service-accounts", account, "keys", key)
        return self._delete_with_result(url, DeletionOut, query)
