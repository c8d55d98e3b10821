"""Middleware for authentication, request ids, and limits of bodies and concurrent requests. Deny by default.

It is plain ASGI middleware so that it also covers mounts, streams, HEAD, OPTIONS and unknown paths.
"""

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from http import HTTPStatus

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windlass.domain.errors import BadRequestError, TooLargeError, UnauthenticatedError, WindlassError
from windlass.domain.projects import Principal
from windlass.services.access import AccessControl
from windlass.services.denials import DenialLog
from windlass.settings import LimitSettings
from windlass.wire.runs import RUNS_PATH, TRANSFERS_PATH, WARM_TRAINERS_PATH
from windlass_api.audited_operations import denied_request
from windlass_api.browser_sessions import read_session_cookie, require_same_site
from windlass_api.concurrency import RequestSlots, held_slots, release_further_slots, store_slot
from windlass_api.dependencies import content_length
from windlass_api.problems import render
from windlass_api.rate_limits import RateLimits, rate_limit_headers

PUBLIC = frozenset(
    {
        "/healthz",
        "/healthz/worker",
        "/readyz",
        "/v1",
        "/v1/auth",
        "/v1/auth/browser-sessions",
        "/v1/auth/callback",
        "/v1/auth/cli-sessions",
        "/v1/auth/link-sessions",
        "/v1/auth/sign-in",
        "/v1/openapi.json",
    }
)
"""Paths that need no credential."""

_SIGN_IN = "/v1/auth/"
"""Public paths whose requests store something: their rate is limited by address."""
_RUN = re.compile(rf"^{RUNS_PATH}/(run_[0-9a-z]{{26}})(?:/|$)")
_WARM_TRAINER = re.compile(rf"^{WARM_TRAINERS_PATH}/([^/]+)/([^/]+)/run$")
_TRANSFER = re.compile(rf"^{TRANSFERS_PATH}:[a-z-]+$")
_UPLOAD = re.compile(r"^/v1/(projects/[^/]+/uploads/[^/]+/files/[^/]+|base-models/[^/]+/files/.+)$")
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_KEY = re.compile(r"^wlk_([0-9a-z]{26})_")
"""The public part of an API key."""
_MAX_CACHED = 1024
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""On every response: a browser must not take the texts of users for a page or a script."""
_CLOSE = (b"connection", b"close")


class AuthenticationMiddleware:
    """ASGI middleware: sets the request id, authenticates the caller, limits its requests and their bodies."""

    def __init__(
        self,
        app: ASGIApp,
        access_control: AccessControl,
        limits: LimitSettings,
        denials: DenialLog,
        rate_limits: RateLimits,
        routes: Sequence[BaseRoute],
    ) -> None:
        self._app = app
        self._access_control = access_control
        self._denials = denials
        self._routes = routes
        self._limits = limits
        self._rate_limits = rate_limits
        self._cache: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._slots = RequestSlots(limits.concurrent_requests, limits.queued_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        header = headers.get("x-request-id", "")
        request_id = header if _REQUEST_ID.match(header) else secrets.token_hex(8)
        scope["windlass.request_id"] = request_id

        async def send_with_request_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._record_denial(scope)
                release_further_slots(scope)  # the body of a download may take hours
                added = [(b"x-request-id", request_id.encode()), _NO_SNIFFING, *rate_limit_headers(scope)]
                added += [_CLOSE] if _has_two_lengths(headers) else []
                message["headers"] = [*message["headers"], *added]
            await send(message)

        try:
            if scope["type"] != "http":
                raise UnauthenticatedError("only HTTP requests are supported")
            _require_one_length(headers)
            caller = await self._authenticate(scope, headers)
            if scope["path"] not in PUBLIC or scope["path"].startswith(_SIGN_IN):
                principal = scope.get("windlass.principal")
                # tokens of an identity provider have no id of their own
                counted = f"{principal.user} {principal.credential}" if principal else caller
                self._rate_limits.count_for_caller(scope, counted)
            receive = self._limit_body(scope, headers, receive)
            async with held_slots(scope), self._slots.slot(caller) as slot:
                store_slot(scope, slot)
                await self._app(scope, receive, send_with_request_id)
        except WindlassError as error:  # the routes handle their own errors
            await render(error, scope)(scope, receive, send_with_request_id)

    async def _record_denial(self, scope: Scope) -> None:
        """Record a request that was denied, before its response."""
        code = scope.get("windlass.denial")
        denied = None if code is None else denied_request(scope, code, self._routes)
        if denied is not None and self._denials.admit(denied):
            await run_in_threadpool(self._denials.record, denied)

    async def _authenticate(self, scope: Scope, headers: dict[str, str]) -> str:
        """Authenticate the request and return who sent it: a user, a run, a transfer, or an address."""
        path, address = scope["path"], f"address {(scope.get('client') or ('unknown',))[0]}"
        if path in PUBLIC:
            return address
        kind, _, token = headers.get("authorization", "").partition(" ")
        if not kind:
            return await self._authenticate_browser(scope, headers, address)
        if named := _KEY.match(token):
            scope["windlass.claimed_key"] = f"key_{named[1]}"
        if kind.lower() != "bearer" or not token:
            raise _unauthenticated()
        run = _RUN.match(path)
        if run is not None:
            await run_in_threadpool(self._access_control.authenticate_run, run[1], token)
            scope["windlass.run"] = run[1]
            return run[1]
        if warm := _WARM_TRAINER.match(path):
            self._access_control.authenticate_warm_trainer(warm[1], warm[2], token)
            scope["windlass.warm_trainer"] = warm[1], warm[2]
            return f"warm trainer {warm[2]}"
        if _TRANSFER.match(path):
            grant = scope["windlass.transfer_grant"] = self._access_control.authenticate_transfer(token)
            return f"transfers of {grant.subject}"
        principal = await self._principal(token, address, self._access_control.authenticate)
        scope["windlass.principal"] = principal
        return f"user {principal.user}"

    async def _authenticate_browser(self, scope: Scope, headers: dict[str, str], address: str) -> str:
        """Authenticate a request by its cookie."""
        access_control = self._access_control
        token = read_session_cookie(headers, secure=access_control.sign_in.policy.secure_cookies)
        if not token:
            raise _unauthenticated()
        principal = await self._principal(token, address, access_control.authenticate_browser)
        require_same_site(scope["method"], headers, principal.credential, access_control.hasher)
        scope["windlass.principal"] = principal
        return f"user {principal.user}"

    async def _principal(self, token: str, address: str, authenticate: Callable[[str], Principal]) -> Principal:
        # A cookie's token in the header is another credential, which is refused.
        digest = sha256(f"{authenticate.__name__} {token}".encode("latin-1", "replace")).digest()
        now = time.monotonic()
        cached = self._cache.get(digest)
        if cached is not None and now - cached[0] < self._limits.key_cache_seconds:
            return cached[1]
        async with self._slots.slot(address):
            principal = await run_in_threadpool(authenticate, token)
        self._cache[digest] = (now, principal)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return principal

    def _limit_body(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        """Return a ``receive`` that ends a body which is too large or too slow."""
        upload = scope["method"] == "PUT" and _UPLOAD.match(scope["path"])
        # The declared file length limits an upload when it is stored.
        is_internal = "windlass.run" in scope or "windlass.transfer_grant" in scope
        limit = self._limits.report_bytes if is_internal else self._limits.body_bytes
        error = TooLargeError(f"the body exceeds {limit} bytes", hint="send less data, or upload it as a dataset")
        if not upload and content_length(headers.get("content-length", "")) > limit:
            raise error
        seconds = self._limits.body_seconds
        deadline, received, complete = anyio.current_time() + seconds, 0, False

        async def receive_limited() -> Message:
            nonlocal received, complete
            if complete:  # the next message is the disconnect
                return await receive()
            with anyio.move_on_at(anyio.current_time() + seconds if upload else deadline) as timer:
                message = await receive()
            # Starlette converts any other exception raised here into a 400.
            if timer.cancelled_caught:
                text = f"the body did not arrive within {seconds:g} seconds"
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, text, {"Connection": "close"})
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > limit and not upload:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.message)
            return message

        return receive_limited


def _has_two_lengths(headers: Mapping[str, str]) -> bool:
    """Return whether a proxy and this server could see different ends of the body (RFC 9112, 6.1)."""
    return "transfer-encoding" in headers and "content-length" in headers


def _require_one_length(headers: Mapping[str, str]) -> None:
    """Refuse a request that could hide another one; its connection is closed, as what follows on it is unknown.

    Raises:
        BadRequestError: it has both headers.
    """
    if _has_two_lengths(headers):
        raise BadRequestError(
            "the request has the headers Content-Length and Transfer-Encoding", hint="send one of them"
        )


def _unauthenticated() -> UnauthenticatedError:
    return UnauthenticatedError(
        "an API key or a session is required", hint="send 'Authorization: Bearer <key>', or sign in"
    )
