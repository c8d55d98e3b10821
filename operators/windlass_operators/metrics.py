"""Prometheus metrics of the operators, in base units. No names of tenants as labels."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
RECONCILIATIONS = Counter(
    "windlass_reconciliations_total", "Reconciliations by kind and outcome.", ["kind", "outcome"], registry=REGISTRY
)
SECONDS = Histogram("windlass_reconcile_seconds", "Time of one reconciliation.", ["kind"], registry=REGISTRY)
CHANGES = Counter(
    "windlass_children_changed_total", "Children applied, deleted and refused.", ["action"], registry=REGISTRY
)
WAITING = Gauge("windlass_reconcile_queue_length", "Resources that wait for their turn.", registry=REGISTRY)
REQUESTS = Counter(
    "windlass_kubernetes_requests_total", "Answers of the API server.", ["method", "status"], registry=REGISTRY
)
LEASE_HELD = Gauge("windlass_operators_lease_held", "1 while this replica is the active one.", registry=REGISTRY)
MISSED = Counter(
    "windlass_watch_missed_total", "Changes that a look at everything found and no watch had told.", registry=REGISTRY
)
