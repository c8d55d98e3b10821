"""Prometheus metrics of the API, in base units. No ids as labels."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "windlass_http_requests_total", "Requests by operation and status.", ["operation", "status"], registry=REGISTRY
)
SECONDS = Histogram(
    "windlass_http_request_seconds", "Time to the end of the response.", ["operation"], registry=REGISTRY
)
OUTBOX_AGE = Gauge("windlass_outbox_oldest_seconds", "Age of the oldest intent that is due.", registry=REGISTRY)
MIRROR_AGE = Gauge(
    "windlass_mirror_age_seconds", "Time since the mirror of the cluster was last known to be right.", registry=REGISTRY
)
LOOP_FAILURES = Counter("windlass_worker_failures_total", "Failed turns of a worker loop.", ["loop"], registry=REGISTRY)
INTENTS = Counter(
    "windlass_intents_total", "Intents carried out, by kind and outcome.", ["kind", "outcome"], registry=REGISTRY
)


class Metrics:
    """ASGI middleware that counts and times requests by operation."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            operation = getattr(scope.get("route"), "operation_id", None) or "other"
            REQUESTS.labels(operation, str(status)).inc()
            SECONDS.labels(operation).observe(time.perf_counter() - began)
