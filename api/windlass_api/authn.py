"""The wall in front of every route: request ids, credentials, body limits. Deny by default.

A plain ASGI layer, so that mounts, streams, HEAD, OPTIONS and paths without a route are behind it too.
"""

import re
import secrets
import time
from collections import OrderedDict
from hashlib import sha256
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windlass.domain.errors import TooLargeError, UnauthenticatedError, WindlassError
from windlass.domain.projects import Principal
from windlass.services.access import Gatekeeper
from windlass.settings import LimitSettings
from windlass_api.problems import render

PUBLIC = frozenset({"/healthz", "/readyz", "/v1", "/v1/openapi.json"})
"""Everything else needs a credential."""

_RUN = re.compile(r"^/internal/v1/runs/(run_[0-9a-z]{26})(?:/|$)")
_UPLOAD = re.compile(r"^/v1/projects/[^/]+/uploads/[^/]+/files/[^/]+$")
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_CACHED = 1024


class Wall:
    """ASGI middleware: gives the request an id, refuses a body that is too large, and lets nobody in unknown."""

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper, limits: LimitSettings) -> None:
        self._app = app
        self._gatekeeper = gatekeeper
        self._limits = limits
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.match(asked) else secrets.token_hex(8)
        scope["windlass.request_id"] = request_id

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if scope["type"] != "http":
                raise UnauthenticatedError("only HTTP is spoken here")
            await self._admit(scope, headers)
            receive = self._bounded(scope, headers, receive)
        except WindlassError as error:
            await render(error, request_id)(scope, receive, tagged)
            return
        await self._app(scope, receive, tagged)

    async def _admit(self, scope: Scope, headers: dict[str, str]) -> None:
        path = scope["path"]
        if path in PUBLIC:
            return
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise UnauthenticatedError("this needs an API key", hint="send 'Authorization: Bearer <key>'")
        run = _RUN.match(path)
        if run is not None:
            self._gatekeeper.check_run_token(run[1], token)
            scope["windlass.run"] = run[1]
            return
        scope["windlass.principal"] = await self._principal(token)

    async def _principal(self, token: str) -> Principal:
        digest, now = sha256(token.encode("latin-1", "replace")).digest(), time.monotonic()
        known = self._known.get(digest)
        if known is not None and now - known[0] < self._limits.key_cache_seconds:
            return known[1]
        principal = await run_in_threadpool(self._gatekeeper.principal, token)
        self._known[digest] = (now, principal)
        while len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return principal

    def _bounded(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        if scope["method"] == "PUT" and _UPLOAD.match(scope["path"]):
            return receive  # counted against the announced length as it is stored
        limit = self._limits.report_bytes if "windlass.run" in scope else self._limits.body_bytes
        refusal = TooLargeError(f"the body may have {limit} bytes", hint="send less, or upload it as a dataset")
        announced = headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > limit:
            raise refusal
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # The framework turns any other exception in here into a 400.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, refusal.message)
            return message

        return counted
