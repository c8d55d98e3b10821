"""Prometheus metrics of the operators, in base units. No tenant names as labels."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
RECONCILIATIONS = Counter(
    "windlass_reconciliations_total", "Reconciliations by kind and outcome.", ["kind", "outcome"], registry=REGISTRY
)
SECONDS = Histogram("windlass_reconcile_seconds", "Duration of reconciliations.", ["kind"], registry=REGISTRY)
CHILDREN = Counter(
    "windlass_children_changed_total", "Children applied, deleted, failed.", ["action"], registry=REGISTRY
)
QUEUE_LENGTH = Gauge("windlass_reconcile_queue_length", "Resources waiting to be reconciled.", registry=REGISTRY)
REQUESTS = Counter(
    "windlass_kubernetes_requests_total", "Responses of the API server.", ["method", "status"], registry=REGISTRY
)
IS_LEADER = Gauge("windlass_operators_is_leader", "1 if this replica is the leader.", registry=REGISTRY)
MISSED_EVENTS = Counter(
    "windlass_watch_missed_total", "Changes found by a resync that no watch had reported.", registry=REGISTRY
)
