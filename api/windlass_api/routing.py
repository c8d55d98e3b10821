"""The router of all routes: a request whose transaction lost against a concurrent one is handled again."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from windlass.domain.errors import TransactionConflictError
from windlass.services.transactions import CONFLICT_BACKOFF, MAX_CONFLICTS
from windlass_api.metrics import TRANSACTION_CONFLICTS


class RepeatedRoute(APIRoute):
    """Handles a request again, dependencies included, while its transaction conflicts with a concurrent one.

    A handler that has read a stream of its body cannot run again; it writes no transaction afterwards.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()

        async def handle_repeatedly(request: Request) -> Response:
            for failures in range(1, MAX_CONFLICTS):
                try:
                    return await handle(request)
                except TransactionConflictError:
                    TRANSACTION_CONFLICTS.labels("request").inc()
                    await anyio.sleep(CONFLICT_BACKOFF.delay(failures))
            return await handle(request)

        return handle_repeatedly


def router(**options: Any) -> APIRouter:
    """Return a router; the options are those of ``APIRouter``."""
    return APIRouter(route_class=RepeatedRoute, **options)
