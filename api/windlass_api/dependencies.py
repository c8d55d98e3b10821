"""FastAPI dependencies: application context, authorized request context, headers and cursors."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import Scope

from windlass.domain.errors import (
    BadRequestError,
    ForbiddenError,
    PreconditionFailedError,
    PreconditionRequiredError,
    UnauthenticatedError,
)
from windlass.domain.projects import GRANTS, Permission, Principal, Project, Role
from windlass.domain.text import TextConstraints
from windlass.services.access import AccessControl
from windlass.services.base import BaseService, Caller, ServiceDependencies
from windlass.services.denials import DenialLog
from windlass.services.idempotency import Idempotency
from windlass.services.request_loads import RequestLoads
from windlass.services.request_usage import RequestUsageCounter
from windlass.settings import LimitSettings
from windlass_api.concurrency import RequestSlots, hold_slot
from windlass_api.forwarding import PredictionForwarder
from windlass_api.parameters import ProjectName
from windlass_api.rate_limits import RateLimits
from windlass_api.stream_hub import StreamHub

S = TypeVar("S", bound=BaseService)

CASCADE_PERMISSIONS = (
    Permission.DATASETS_WRITE,
    Permission.ENDPOINTS_WRITE,
    Permission.JOBS_WRITE,
    Permission.MODELS_WRITE,
)
"""What a caller needs to delete an object with its descendants: the rights to delete each of them."""
_MAX_ADDRESS = 64
_MAX_ETAG = 200
_MAX_DIGITS = 18
"""Every decimal number of this length fits into 64 bits."""


@dataclass(frozen=True)
class AppContext:
    """Dependencies of the routes, created by the composition root."""

    deps: ServiceDependencies
    access_control: AccessControl
    limits: LimitSettings
    heartbeat_timeout: timedelta
    mode: Literal["embedded", "cluster"]
    request_loads: RequestLoads
    denials: DenialLog
    request_usage: RequestUsageCounter
    trusted_proxies: str = ""
    """Addresses or networks of the reverse proxies that name the client of a request."""
    internal_url: str = ""
    """Where the processes of a run reach this server; empty if it trains nothing."""
    worker_problem: Callable[[], str] = field(default=lambda: "")
    """Returns an empty string if the worker's loops run, else the problem."""
    database_problem: str = ""
    """Why row security does not restrict this process, where the database has it."""

    @cached_property
    def forwarder(self) -> PredictionForwarder:
        """What forwards the predictions of this process."""
        return PredictionForwarder(self.request_loads, self.request_usage, self.limits)

    @cached_property
    def project_slots(self) -> RequestSlots:
        """What shares the threads of this process among projects."""
        return RequestSlots(self.limits.concurrent_requests_per_project, self.limits.queued_requests)

    @cached_property
    def rate_limits(self) -> RateLimits:
        """The rate limits of this process."""
        return RateLimits(self.limits)

    @cached_property
    def streams(self) -> StreamHub:
        """What the event and log streams share."""
        return StreamHub(self.access_control, self.limits.streams_per_key, self.limits.streams_per_project)


@dataclass(frozen=True)
class RequestContext:
    """An authorized request: the caller, and the project of the path (None for global routes)."""

    app: AppContext
    caller: Caller
    path_project: Project | None = None

    @property
    def deps(self) -> ServiceDependencies:
        """Dependencies of the services."""
        return self.app.deps

    @property
    def project(self) -> Project:
        """The project of the path."""
        if self.path_project is None:
            raise ForbiddenError("this route does not belong to a project")
        return self.path_project

    def require(self, *permissions: Permission) -> None:
        """Require further permissions in the project of the path: what a cascading deletion deletes.

        Raises:
            ForbiddenError: the caller lacks one.
        """
        for permission in permissions:
            found, granted = self.app.access_control.authorize_project(
                self.caller.principal, self.project.name, permission
            )
            if not granted:
                raise _forbidden(found, permission)

    def project_service(self, kind: Callable[[ServiceDependencies, Caller, str], S]) -> S:
        """Create a service of the project."""
        return kind(self.deps, self.caller, self.project.id)

    def service(self, kind: Callable[[ServiceDependencies, Caller], S]) -> S:
        """Create a global service."""
        return kind(self.deps, self.caller)


def get_app_context(request: Request) -> AppContext:
    """Return the application context."""
    app_context: AppContext = request.app.state.app_context
    return app_context


def _caller(request: Request) -> Caller:
    principal = request.scope.get("windlass.principal")
    if not isinstance(principal, Principal):
        raise UnauthenticatedError("an API key is required", hint="send 'Authorization: Bearer <key>'")
    return Caller(principal, request.scope["windlass.request_id"], client_address(request.scope))


def client_address(scope: Scope) -> str:
    """Return the address of the client, which a trusted proxy may have named."""
    host = (scope.get("client") or ("",))[0]
    return host[:_MAX_ADDRESS] if host.isprintable() else ""


@dataclass(frozen=True)
class RequirePermission:
    """A dependency that authorizes the caller for a permission."""

    permission: Permission


class RequireGlobalPermission(RequirePermission):
    """Authorizes on a route that belongs to no project."""

    def __call__(self, request: Request) -> RequestContext:
        """Authorize the request and return its context.

        Raises:
            ForbiddenError: the caller lacks the permission.
        """
        app, caller = get_app_context(request), _caller(request)
        app.access_control.require_permission(caller.principal, self.permission)
        return RequestContext(app, caller)


class RequireProjectPermission(RequirePermission):
    """Authorizes in the project of the path."""

    async def __call__(self, request: Request, project: ProjectName) -> RequestContext:
        """Authorize the request, wait for a slot of its project, and return its context.

        Raises:
            NotFoundError: the project does not exist or the caller is not a member.
            ForbiddenError: the caller lacks the permission.
            RateLimitedError: the requests of the project exceed its rate.
            TooManyRequestsError: too many requests of the project wait already.
        """
        app, caller = get_app_context(request), _caller(request)
        found, granted = await run_in_threadpool(
            app.access_control.authorize_project, caller.principal, project, self.permission
        )
        app.rate_limits.count_for_project(request.scope, found.id, found.name)
        if not granted:
            raise _forbidden(found, self.permission)
        # A tenant has many users. Its requests are counted here, when it is certain that they are its own.
        await hold_slot(request.scope, app.project_slots, f"project {found.name}")
        return RequestContext(app, caller, found)


def _forbidden(project: Project, permission: Permission) -> ForbiddenError:
    return ForbiddenError(
        f"your role in project {project.name} does not allow {permission}",
        hint=(
            "ask an admin of the project for a higher role"
            if permission in GRANTS[Role.ADMIN]
            else "ask a platform admin: no role of a project allows it"
        ),
    )


def require_project(permission: Permission) -> Any:
    """Require a permission in the project of the path."""
    return Depends(RequireProjectPermission(permission))


def require_global(permission: Permission) -> Any:
    """Require a permission on a global route."""
    return Depends(RequireGlobalPermission(permission))


def if_match(
    value: Annotated[
        Annotated[str, TextConstraints(max_length=_MAX_ETAG)] | None,
        Header(alias="If-Match", description="ETag of the object: the change applies to this version only"),
    ] = None,
) -> int:
    """Return the object version of the If-Match header.

    Raises:
        PreconditionRequiredError: the header is missing.
        PreconditionFailedError: the header is not a valid ETag.
    """
    if value is None:
        raise PreconditionRequiredError(
            "the If-Match header is required", hint='send the ETag of the object in If-Match, such as "3"'
        )
    text = value.strip().removeprefix("W/").strip('"')
    if not text.isdecimal() or not text.isascii() or len(text) > _MAX_DIGITS:
        raise PreconditionFailedError(
            "the If-Match header is not an ETag of this object", hint="get the object and send its ETag"
        )
    return int(text)


def content_length(value: str) -> int:
    """Return the length of a Content-Length header, 0 without one; a length beyond 64 bits is the longest possible."""
    if not value.isdecimal() or not value.isascii():
        return 0
    return int(value) if len(value) <= _MAX_DIGITS else 10**_MAX_DIGITS


IfMatch = Annotated[int, Depends(if_match)]


async def idempotency_key_header(
    request: Request,
    key: Annotated[
        Annotated[str, TextConstraints(min_length=1, max_length=200)] | None,
        Header(alias="Idempotency-Key", description="random key; a repeated request returns the first one's object"),
    ] = None,
) -> Idempotency | None:
    """Return the idempotency key bound to the route and a hash of the body, None without the header."""
    if key is None:
        return None
    return Idempotency.of(f"{request.method} {request.url.path}", key, await request.body())


IdempotencyKey = Annotated[Idempotency | None, Depends(idempotency_key_header)]


def require_idempotency_key(idempotency_key: IdempotencyKey) -> Idempotency:
    """Return the idempotency key.

    Raises:
        BadRequestError: the Idempotency-Key header is missing.
    """
    if idempotency_key is None:
        raise BadRequestError.field(
            "/header/Idempotency-Key",
            "is required",
            hint="send a new random key, and the same key on retries",
        )
    return idempotency_key


RequiredIdempotencyKey = Annotated[Idempotency, Depends(require_idempotency_key)]


def encode_cursor(key: str | int) -> str:
    """Return the opaque cursor of a key."""
    return base64.urlsafe_b64encode(str(key).encode()).decode()


def decode_cursor(cursor: str | None) -> str | None:
    """Return the key of a cursor.

    Raises:
        BadRequestError: the cursor is invalid.
    """
    if cursor is None:
        return None
    try:
        key = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise BadRequestError.field("/query/cursor", "is not a valid cursor") from error
    if not key or not key.isprintable():
        raise BadRequestError.field("/query/cursor", "is not a valid cursor")
    return key


def decode_number(cursor: str | None) -> int | None:
    """Return the key of a cursor whose key is a number.

    Raises:
        BadRequestError: the cursor is invalid.
    """
    key = decode_cursor(cursor)
    return None if key is None else _parse_number(key, "/query/cursor", "is not a valid cursor")


def parse_last_event_id(identity: str | None) -> int | None:
    """Return the number of the Last-Event-ID header.

    Raises:
        BadRequestError: the id is invalid.
    """
    return None if identity is None else _parse_number(identity, "/header/Last-Event-ID", "is not a valid event id")


def _parse_number(text: str, pointer: str, problem: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > _MAX_DIGITS:
        raise BadRequestError.field(pointer, problem)
    return int(text)
