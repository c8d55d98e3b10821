"""Sign-in, sessions, users and service accounts."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from windlass.domain.ids import Name
from windlass.domain.text import DisplayName, TextConstraints
from windlass.wire.base import In, Out, shown
from windlass.wire.projects import Permissions, Role

Token = Annotated[str, TextConstraints(min_length=1, max_length=1 << 15)]


class DeviceClientOut(Out):
    """What a program needs to sign a user in by the device flow of the identity provider (RFC 8628)."""

    client_id: str
    """Id of the client."""
    device_authorization_endpoint: str
    """Where the program asks for a code for the user."""
    token_endpoint: str
    """Where it asks for the ID token."""
    scope: str
    """Scopes to ask for."""


class SignInOut(Out):
    """How users sign in: ``GET /v1/auth``."""

    sign_in_path: str | None
    """Path at which a browser begins to sign in; null: there is no identity provider."""
    device: DeviceClientOut | None
    """The device flow; null: there is none."""


class IdTokenIn(In):
    """Open a session for an ID token from the device flow."""

    model_config = shown({"id_token": "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"})

    id_token: Token
    """The ID token, at most ten minutes old."""


class KeySessionIn(In):
    """Open a session of a browser with an API key."""

    model_config = shown({"key": "wlk_01arz3ndektsv4rrffq69g5fav_the-secret"})

    key: Token
    """The API key."""


class LinkSessionIn(In):
    """Open a session of a browser with the code of a sign-in link."""

    model_config = shown({"code": "wls_01arz3ndektsv4rrffq69g5fav_the-secret"})

    code: Token
    """The code, which is valid once."""


class SignInLinkOut(Out):
    """A link that signs a browser in, once."""

    path: str
    """Path on this server; the code is in its fragment, which browsers do not send."""
    expires_at: datetime
    """Until when it is valid."""


class SessionOut(Out):
    """A session of a signed-in user."""

    id: str
    """Id of the session."""
    user: str
    """Name of the user."""
    kind: Literal["browser", "cli"]
    """A browser's is in a cookie, the command line's in the Authorization header."""
    created_at: datetime
    """When the user signed in."""
    expires_at: datetime
    """When the user has to sign in again."""


class CurrentSessionOut(SessionOut):
    """The session of the request."""

    csrf_token: str
    """Value of the header `X-CSRF-Token` of the requests of a browser that change something."""


class NewSessionOut(SessionOut):
    """A new session; ``secret`` is returned only once."""

    secret: str
    """The token for the Authorization header."""


class UserOut(Out):
    """A user who has signed in by the identity provider."""

    name: str
    """Name of the user."""
    display_name: str
    """Name for people."""
    issuer: str
    """The identity provider."""
    groups: list[str]
    """Groups of the latest sign-in."""
    signed_in_at: datetime
    """Time of the latest sign-in."""
    disabled_at: datetime | None
    """When an admin disabled the user; null: the user may sign in."""


class ServiceAccountIn(In):
    """Create an account of a program."""

    model_config = shown({"name": "nightly", "role": "editor", "description": "Trains on the data of the day"})

    name: Name
    """Name, unique in the project."""
    role: Role
    """What it may do in the project."""
    description: DisplayName = ""
    """What it is for."""


class ServiceAccountPatch(In):
    """Update a service account."""

    model_config = shown({"role": "viewer"})

    role: Role
    """What it may do in the project."""


class ServiceAccountOut(Out):
    """An account of a program in a project."""

    name: str
    """Name of the account."""
    user: str
    """Name of the account as a user, as in `created_by` and in the audit log."""
    role: Role
    """What it may do in the project."""
    description: str
    """What it is for."""
    created_at: datetime
    """Time of creation."""
    version: int
    """Version of this object."""


class ServiceAccountKeyIn(In):
    """Create an API key of a service account."""

    model_config = shown({"name": "2026", "permissions": ["jobs:read", "jobs:write"], "expires_in_days": 90})

    name: DisplayName = ""
    """Display name of the key."""
    permissions: Permissions | None = None
    """The only permissions of the key; null: all that the account's role has."""
    expires_in_days: int | None = Field(default=None, ge=1, le=3650)
    """Days until the key expires; null: never."""
