"""Health for probes, metrics for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from windlass.domain.errors import UnavailableError
from windlass.domain.projects import Permission
from windlass_api.dependencies import Visit, platform, wiring_of
from windlass_api.metrics import OUTBOX_AGE, REGISTRY

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="getHealth", response_class=PlainTextResponse)
async def get_health() -> str:
    """Whether the process answers; touches nothing else."""
    return "ok"


@router.get("/readyz", operation_id="getReadiness", response_class=PlainTextResponse)
def get_readiness(request: Request) -> str:
    """Whether the server can do its work: the database answers and the worker turns."""
    wiring = wiring_of(request)
    with wiring.backing.database.read() as work:
        work.pools.page(1, None)
    missing = wiring.ready()
    if missing:
        raise UnavailableError(missing)
    return "ok"


@router.get("/metrics", operation_id="getPrometheusMetrics", response_class=PlainTextResponse)
def get_metrics(visit: Annotated[Visit, platform(Permission.METRICS_READ)]) -> Response:
    """Prometheus metrics; for admins."""
    backing = visit.backing
    with backing.database.read() as work:
        oldest = work.outbox.oldest()
    OUTBOX_AGE.set((backing.clock.now() - oldest).total_seconds() if oldest else 0)
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
