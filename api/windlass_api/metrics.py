"""Prometheus metrics of the API, in base units. Labels have low cardinality."""

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windlass.services.budgets import BudgetView
from windlass.services.rollouts import ObservedReplicas

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "windlass_http_requests_total", "Requests by operation and status.", ["operation", "status"], registry=REGISTRY
)
SECONDS = Histogram(
    "windlass_http_request_seconds", "Time to the end of the response.", ["operation"], registry=REGISTRY
)
RATE_LIMITED = Counter(
    "windlass_rate_limited_requests_total",
    "Requests that were refused because of the rate limit of a key or a project.",
    ["kind", "partition"],
    registry=REGISTRY,
)
OUTBOX_AGE = Gauge("windlass_outbox_oldest_seconds", "Age of the oldest due outbox intent.", registry=REGISTRY)
CLUSTER_SYNC_AGE = Gauge(
    "windlass_cluster_sync_age_seconds", "Time since the database last matched the cluster.", registry=REGISTRY
)
AUDIT_UNSEALED_AGE = Gauge(
    "windlass_audit_unsealed_seconds",
    "Age of the oldest audit entry that the leader of the workers could not seal.",
    registry=REGISTRY,
)
LOOP_FAILURES = Counter(
    "windlass_worker_failures_total", "Failed iterations of a worker loop.", ["loop"], registry=REGISTRY
)
INTENTS = Counter(
    "windlass_intents_total", "Handled outbox intents by kind and outcome.", ["kind", "outcome"], registry=REGISTRY
)
LOOP_SECONDS = Histogram(
    "windlass_worker_loop_seconds",
    "Duration of iterations of a worker loop.",
    ["loop"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300),
    registry=REGISTRY,
)
LOST_LEASES = Counter(
    "windlass_leases_lost_total", "Leases that expired while their holder had work.", ["lease"], registry=REGISTRY
)
AMBIGUOUS_SUBMISSIONS = Counter(
    "windlass_ambiguous_submissions_total",
    "Submissions of a run that was already submitted: the outcome of an earlier one was lost.",
    registry=REGISTRY,
)
TRANSACTION_CONFLICTS = Counter(
    "windlass_transaction_conflicts_total",
    "Transactions that lost against a concurrent one, and were repeated.",
    ["operation"],
    registry=REGISTRY,
)
QUEUE_WAIT = Histogram(
    "windlass_queue_wait_seconds",
    "Time from the submission of a job to its first admission.",
    ["pool"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600),
    registry=REGISTRY,
)
GPU_SECONDS = Counter(
    "windlass_gpu_seconds_total",
    "GPU time of ended attempts by pool and outcome of the attempt.",
    ["pool", "outcome"],
    registry=REGISTRY,
)
HELD_REQUESTS = Gauge(
    "windlass_held_requests", "Predictions that wait for the first replica of an endpoint.", registry=REGISTRY
)
ENDPOINT_REPLICAS = Gauge(
    "windlass_endpoint_replicas",
    "Replicas of an endpoint, desired by the autoscaling and ready, as the leader of the workers observes them.",
    ["project", "endpoint", "state"],
    registry=REGISTRY,
)
BUDGET_USED = Gauge(
    "windlass_budget_used_ratio",
    "Used part of a project's budget of the month, of the limit of which the most is used; 1: new jobs are refused.",
    ["project"],
    registry=REGISTRY,
)
for _lease in ("attempt", "intent", "leader"):
    LOST_LEASES.labels(_lease)  # a counter that starts with its first event has no increase
for _kind in ("management", "prediction"):
    for _partition in ("key", "project"):
        RATE_LIMITED.labels(_kind, _partition)


ReplicaLabels = tuple[str, str, str]
"""Project, endpoint, and whether the replicas are desired or ready."""


def publish_replicas(
    observed: Sequence[ObservedReplicas], before: frozenset[ReplicaLabels]
) -> frozenset[ReplicaLabels]:
    """Set the numbers of replicas, and remove those of ``before`` that are not observed; return what is published."""
    numbers: dict[ReplicaLabels, int] = {}
    for each in observed:
        numbers[each.project, each.endpoint, "desired"] = each.desired
        numbers[each.project, each.endpoint, "ready"] = each.ready
    for labels, number in numbers.items():
        ENDPOINT_REPLICAS.labels(*labels).set(number)
    for labels in before - numbers.keys():  # of deleted endpoints
        ENDPOINT_REPLICAS.remove(*labels)
    return frozenset(numbers)


def publish_budgets(budgets: Sequence[BudgetView]) -> None:
    """Set what is used of the budgets, and remove the others."""
    for view in budgets:
        BUDGET_USED.labels(view.project.name).set(view.status.used_ratio or 0.0)
    published = {sample.labels["project"] for metric in BUDGET_USED.collect() for sample in metric.samples}
    for name in published - {view.project.name for view in budgets}:
        BUDGET_USED.remove(name)


class MetricsMiddleware:
    """ASGI middleware that counts and times requests by operation."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def send_and_record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_record_status)
        finally:
            operation = getattr(scope.get("route"), "operation_id", None) or "other"
            REQUESTS.labels(operation, str(status)).inc()
            SECONDS.labels(operation).observe(time.perf_counter() - began)
