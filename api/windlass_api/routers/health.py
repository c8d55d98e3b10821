"""Probes and Prometheus metrics."""

from typing import Annotated

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from windlass.domain.errors import UnavailableError
from windlass.domain.projects import Permission
from windlass_api import routing
from windlass_api.dependencies import RequestContext, get_app_context, require_global
from windlass_api.metrics import OUTBOX_AGE, REGISTRY

router = routing.router(tags=["health"])


@router.get("/healthz", operation_id="getHealth", response_class=PlainTextResponse)
async def get_health() -> str:
    """Liveness probe; checks nothing but the process."""
    return "ok"


@router.get("/readyz", operation_id="getReadiness", response_class=PlainTextResponse)
def get_readiness(request: Request) -> str:
    """Readiness probe: checks the database. A stalled worker does not take the API out of its Service.

    The text also says whether row security does not restrict this process; its log has the reason.
    """
    app = get_app_context(request)
    with app.deps.database.read() as uow:
        uow.pools.page(1, None)
    return "ok; row security does not restrict the API, see its log" if app.database_problem else "ok"


@router.get("/healthz/worker", operation_id="getWorkerHealth", response_class=PlainTextResponse)
async def get_worker_health(request: Request) -> str:
    """Worker health: fails while a background loop is stalled."""
    problem = get_app_context(request).worker_problem()
    if problem:
        raise UnavailableError(problem, hint="read the server's log")
    return "ok"


@router.get("/metrics", operation_id="getPrometheusMetrics", response_class=PlainTextResponse)
def get_metrics(ctx: Annotated[RequestContext, require_global(Permission.METRICS_READ)]) -> Response:
    """Prometheus metrics; requires a platform role."""
    deps = ctx.deps
    with deps.database.read() as uow:
        uow.platform()
        oldest = uow.outbox.oldest()
    OUTBOX_AGE.set((deps.clock.now() - oldest).total_seconds() if oldest else 0)
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
