"""What routes ask for: the use cases of the caller, after its permission was checked."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Header, Query, Request

from windlass.domain.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    PreconditionFailedError,
    PreconditionRequiredError,
    UnauthenticatedError,
)
from windlass.domain.projects import Permission, Principal, Project
from windlass.ports import ServingBackend
from windlass.services.access import Gatekeeper
from windlass.services.backing import Backing, Caller
from windlass.services.idempotency import Idempotency
from windlass.services.quotas import QuotaTruth
from windlass.settings import LimitSettings

U = TypeVar("U")

_LONGEST_NUMBER = 18
"""Digits of a number that fits into 64 bits whatever they are."""


@dataclass(frozen=True)
class Wiring:
    """What the composition root put together for the routes."""

    backing: Backing
    gatekeeper: Gatekeeper
    limits: LimitSettings
    lease: timedelta
    up_since: datetime
    mode: Literal["embedded", "cluster"]
    serving: ServingBackend | None
    """None: no model is served from here."""
    quota_truth: QuotaTruth
    ready: Callable[[], str] = field(default=lambda: "")
    """An empty string when the server can do its work, else what is missing."""

    def refuse_in_cluster(self, noun: str, kind: str) -> None:
        """Refuse to write what a cluster's resource owns.

        Raises:
            ConflictError: this server works for a cluster.
        """
        if self.mode == "cluster":
            raise ConflictError(
                f"here a {noun} is a {kind} of the cluster, and this server only mirrors it",
                hint=f"change it there: kubectl explain {kind.lower()}s; docs/guides/quotas.md shows how",
            )

    def require_backends(self) -> None:
        """Refuse what would wait for ever.

        Raises:
            ConflictError: nothing trains or serves for this server.
        """
        if self.serving is None:
            raise ConflictError(
                "this server keeps quotas, data and predictions; it has no back end that trains or serves",
                hint="`...jobs:simulate` says what a job would wait for; start jobs at a server with back ends",
            )


@dataclass(frozen=True)
class Visit:
    """One authorised request: the caller, and the project it entered (none outside of projects)."""

    wiring: Wiring
    caller: Caller
    project: Project | None = None

    @property
    def backing(self) -> Backing:
        """The ports."""
        return self.wiring.backing

    @property
    def inside(self) -> Project:
        """The project of the path."""
        if self.project is None:
            raise ForbiddenError("this route is outside of projects")
        return self.project

    def use(self, kind: Callable[..., U], **more: Any) -> U:
        """Make project use cases of this kind."""
        return kind(backing=self.backing, caller=self.caller, project=self.inside.id, **more)

    def platform(self, kind: Callable[..., U], **more: Any) -> U:
        """Make use cases outside of projects."""
        return kind(backing=self.backing, caller=self.caller, **more)


def wiring_of(request: Request) -> Wiring:
    """Return the app's wiring."""
    wiring: Wiring = request.app.state.wiring
    return wiring


def _caller(request: Request) -> Caller:
    principal = request.scope.get("windlass.principal")
    if not isinstance(principal, Principal):
        raise UnauthenticatedError("this needs an API key", hint="send 'Authorization: Bearer <key>'")
    return Caller(principal, request.scope["windlass.request_id"])


class Needs:
    """A dependency that enters the path's project, or the platform, with one permission; tests look for it."""

    def __init__(self, permission: Permission, *, project: bool) -> None:
        self.permission = permission
        self.project = project

    def __call__(self, request: Request) -> Visit:
        """Check, and return the visit.

        Raises:
            NotFoundError: no such project for this caller.
            ForbiddenError: the caller's role does not allow it.
        """
        wiring, caller = wiring_of(request), _caller(request)
        if not self.project:
            wiring.gatekeeper.require(caller.principal, self.permission)
            return Visit(wiring, caller)
        project, granted = wiring.gatekeeper.enter(caller.principal, request.path_params["project"], self.permission)
        if not granted:
            raise ForbiddenError(
                f"your role in project {project.name} does not allow {self.permission}",
                hint="ask an owner of the project for a higher role",
            )
        return Visit(wiring, caller, project)


def inside(permission: Permission) -> Any:
    """Declare a route of a project that needs a permission."""
    return Depends(Needs(permission, project=True))


def platform(permission: Permission) -> Any:
    """Declare a route outside of projects that needs a permission."""
    return Depends(Needs(permission, project=False))


def if_match(value: Annotated[str | None, Header(alias="If-Match")] = None) -> int:
    """Return the version that the caller read.

    Raises:
        PreconditionRequiredError: no If-Match.
        PreconditionFailedError: not a version of ours, so not the current one.
    """
    if value is None:
        raise PreconditionRequiredError(
            "a change needs the version that it starts from", hint='send If-Match with the ETag that you read, like "3"'
        )
    text = value.strip().removeprefix("W/").strip('"')
    if not text.isdecimal() or not text.isascii() or len(text) > _LONGEST_NUMBER:
        raise PreconditionFailedError("If-Match is not a version of this object", hint="send the ETag that you read")
    return int(text)


IfMatch = Annotated[int, Depends(if_match)]
Limit = Annotated[int, Query(ge=1, le=200, description="items per page")]
CursorText = Annotated[str | None, Query(max_length=200, description="next_cursor of the page before")]


async def idempotency(
    request: Request,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)] = None,
) -> Idempotency | None:
    """Return the request's idempotency key bound to its route and body, or None."""
    if key is None:
        return None
    return Idempotency.of(f"{request.method} {request.url.path}", key, await request.body())


Once = Annotated[Idempotency | None, Depends(idempotency)]


def required_once(once: Once) -> Idempotency:
    """Return the idempotency key of a request that must carry one.

    Raises:
        BadRequestError: it has none.
    """
    if once is None:
        raise BadRequestError.field(
            "/header/Idempotency-Key",
            "is required here",
            hint="send a fresh random key, and the same key when you retry",
        )
    return once


OnceRequired = Annotated[Idempotency, Depends(required_once)]


def encode_cursor(key: str | int) -> str:
    """Return the opaque cursor behind a key."""
    return base64.urlsafe_b64encode(str(key).encode()).decode()


def decode_cursor(cursor: str | None) -> str | None:
    """Return the key that a cursor stands for.

    Raises:
        BadRequestError: it is none of ours.
    """
    if cursor is None:
        return None
    try:
        key = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise BadRequestError.field("/query/cursor", "is not a cursor of this list") from error
    if not key or not key.isprintable():
        raise BadRequestError.field("/query/cursor", "is not a cursor of this list")
    return key


def decode_number(cursor: str | None) -> int | None:
    """Return the number that a cursor of a numbered list stands for.

    Raises:
        BadRequestError: it is none of ours.
    """
    key = decode_cursor(cursor)
    return None if key is None else _counted(key, "/query/cursor", "is not a cursor of this list")


def last_event(identity: str | None) -> int | None:
    """Return where a reader of a stream stopped.

    Raises:
        BadRequestError: the id is none of ours.
    """
    return None if identity is None else _counted(identity, "/header/Last-Event-ID", "is not an id of this stream")


def _counted(text: str, pointer: str, problem: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > _LONGEST_NUMBER:
        raise BadRequestError.field(pointer, problem)
    return int(text)
