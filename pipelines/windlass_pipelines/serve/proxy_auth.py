"""Authentication in front of Serve's HTTP proxy, for all applications and Serve's own routes such as ``/-/routes``.

Any user of the machine can connect to the loopback address, and other pods may reach a pod. Serve imports
``middlewares`` in its proxy process (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``, set by
``windlass.orchestration.ray_head`` and by the image ``windlass/ray``).
"""

import hmac
import os
from collections.abc import Collection

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from windlass.domain.errors import UnauthenticatedError
from windlass.serving.credentials import proxy_headers
from windlass.serving.environment import CREDENTIALS_VARIABLE
from windlass_pipelines.serve.web import problem_response

_HEALTH_PATH = "/-/healthz"


class ProxyAuthMiddleware:
    """ASGI middleware that refuses every request without the credential."""

    def __init__(self, app: ASGIApp, authorization: str, public: Collection[str] = ()) -> None:
        """``authorization`` is the required header, empty refuses every request; ``public`` paths need none."""
        self._app, self._expected, self._public = app, authorization.encode(), frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        given = next((value for name, value in scope.get("headers", ()) if name == b"authorization"), b"")
        is_public = scope["type"] == "http" and scope["path"] in self._public
        is_authorized = self._expected and hmac.compare_digest(given, self._expected)
        if scope["type"] == "lifespan" or is_public or is_authorized:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await problem_response(UnauthenticatedError("send requests to the API of Windlass"))(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Return the middlewares of Serve's HTTP proxy."""
    authorization = proxy_headers(os.environ).get("Authorization", "")
    # The probes of a pod cannot send a credential.
    public = (_HEALTH_PATH,) if CREDENTIALS_VARIABLE in os.environ else ()
    return [Middleware(ProxyAuthMiddleware, authorization=authorization, public=public)]
