"""Users of an identity provider, their sessions, and service accounts."""

from datetime import datetime
from enum import StrEnum

from windlass.domain.jobs import DomainModel
from windlass.domain.projects import Role

RESERVED_USERS = frozenset({"admin"})
"""Users of keys that an installation creates, which no identity provider may name."""


class IdentityClaims(DomainModel):
    """What a verified token of the identity provider says about a user."""

    issuer: str
    subject: str
    """The user's id at the issuer, which never changes."""
    name: str
    """The name of the user here, from the configured claim."""
    display_name: str = ""
    groups: tuple[str, ...] = ()
    expires_at: datetime


class UserAccount(DomainModel):
    """A user who has signed in by the identity provider. The name belongs to one subject of one issuer for ever."""

    name: str
    issuer: str
    subject: str
    display_name: str = ""
    groups: tuple[str, ...] = ()
    """The groups of the latest token."""
    created_at: datetime
    signed_in_at: datetime
    disabled_at: datetime | None = None
    version: int = 1


class SessionKind(StrEnum):
    """How a session is presented: a browser's in a cookie, the command line's in the Authorization header.

    A link's is a one-time code, which a browser exchanges for a session of its own.
    """

    BROWSER = "browser"
    CLI = "cli"
    LINK = "link"


class UserSession(DomainModel):
    """A signed-in user. ``secret_hash`` is HMAC-SHA256 under the server's pepper."""

    id: str
    user: str
    kind: SessionKind
    api_key: str | None = None
    """The API key that it was opened with, whose rights it has; None: the user signed in by the identity provider."""
    secret_hash: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None


class ServiceAccount(DomainModel):
    """An account of a program, in one project. Its API keys are its credentials."""

    id: str
    project: str
    name: str
    role: Role
    description: str = ""
    created_at: datetime
    version: int = 1


def service_account_user(project: str, account: str) -> str:
    """Return the user name of a service account; no other user can have it, since it contains colons.

    Args:
        project: name of the project.
        account: name of the service account.
    """
    return f"serviceaccount:{project}:{account}"
