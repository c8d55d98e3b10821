"""Project: quota usage, borrowing and lending, and its conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.quota import LedgerRow, PoolState, Quota, ResourceDemand, Snapshot, ledger
from windlass.kube.names import cluster_queue_of, namespace_of
from windlass.kube.objects import Object
from windlass.kube.resources import GPUPool, Project, ProjectStatus
from windlass.kube.resources.project import Loan, QuotaUse
from windlass_operators.children import ApplyFailure
from windlass_operators.decide import READY, ConditionResult, apply_failed, conditions, join_limited

OVERCOMMITTED = "Overcommitted"


@dataclass(frozen=True, slots=True)
class ProjectObservation:
    """The state that a project's status depends on."""

    pools: Mapping[str, GPUPool]
    usage: Mapping[str, QuotaUse]
    """By pool."""
    namespace: Object | None = None
    queues: Mapping[str, Object] | None = None
    """ClusterQueues by name."""


def status(
    project: Project, observation: ProjectObservation, failures: Sequence[ApplyFailure], now: datetime
) -> ProjectStatus:
    """Return the status of a project that is not being deleted."""
    rows = quota_usage(project, observation.usage)
    ready = apply_failed(failures) or _unknown_pools(project, observation) or _ready_condition(project, observation)
    return build_status(project, rows, {READY: ready, OVERCOMMITTED: _overcommitted_condition(rows)}, now)


def build_status(
    project: Project,
    rows: Sequence[QuotaUse],
    results: Mapping[str, ConditionResult],
    now: datetime,
    namespace: str = "",
) -> ProjectStatus:
    """Return a status with this quota usage and these conditions."""
    generation = project.metadata.generation
    return ProjectStatus(
        namespace=namespace or namespace_of(project.metadata.name),
        quotas=tuple(rows),
        used=sum(row.used for row in rows),
        nominal=sum(row.nominal for row in rows),
        pending=sum(row.pending for row in rows),
        observed_generation=generation,
        conditions=conditions(project.status.conditions, results, generation, now),
    )


def quota_usage(project: Project, usage: Mapping[str, QuotaUse]) -> tuple[QuotaUse, ...]:
    """Return the usage per quota in spec order, then of pools in which the project holds GPUs without a quota."""
    quotas = {quota.pool: usage.get(quota.pool) or _unused(quota) for quota in _quotas(project)}
    without_quota = [use for pool, use in sorted(usage.items()) if pool not in quotas]
    return (*quotas.values(), *without_quota)


def usage_by_project(
    pools: Mapping[str, GPUPool], projects: Mapping[str, Project], demands: Sequence[ResourceDemand]
) -> dict[str, dict[str, QuotaUse]]:
    """Return the usage by project and pool of the projects that share quota.

    The ledger is computed as Kueue sees it: without the pools' capacity.
    """
    snapshot = Snapshot(
        pools=tuple(PoolState(name=name, capacity=None) for name in pools),
        quotas=tuple(quota for member in projects.values() for quota in _quotas(member) if quota.pool in pools),
        cohorts={name: member.spec.cohort for name, member in projects.items()},
        demands=tuple(demand for demand in demands if demand.project in projects and demand.pool in pools),
    )
    usage: dict[str, dict[str, QuotaUse]] = {}
    for row in ledger(snapshot):
        usage.setdefault(row.project, {})[row.pool] = _use(row)
    return usage


def _quotas(project: Project) -> list[Quota]:
    return [
        Quota(
            project=project.metadata.name,
            pool=quota.pool,
            nominal=quota.nominal,
            borrowing_limit=quota.borrowing_limit,
            lending_limit=quota.lending_limit,
        )
        for quota in project.spec.quotas
    ]


def _unused(quota: Quota) -> QuotaUse:
    return QuotaUse(pool=quota.pool, nominal=quota.nominal)


def _use(row: LedgerRow) -> QuotaUse:
    return QuotaUse(
        pool=row.pool,
        nominal=row.nominal,
        used=row.used,
        overcommitted=row.overcommitted,
        borrowed_from=tuple(Loan(project=other, gpus=gpus) for other, gpus in sorted(row.borrowed_from.items())),
        lent_to=tuple(Loan(project=other, gpus=gpus) for other, gpus in sorted(row.lent_to.items())),
        reclaimable=row.reclaimable,
        pending=row.pending,
    )


def _unknown_pools(project: Project, observation: ProjectObservation) -> ConditionResult | None:
    missing = [quota.pool for quota in project.spec.quotas if quota.pool not in observation.pools]
    if not missing:
        return None
    message = f"GPUPool {join_limited(missing)} does not exist or is invalid: its quota has no queue"
    return ConditionResult(status=False, reason="UnknownPool", message=message)


def _ready_condition(project: Project, observation: ProjectObservation) -> ConditionResult:
    """Return whether the namespace exists and all queues are active."""
    name = project.metadata.name
    if observation.namespace is None or observation.namespace["metadata"].get("deletionTimestamp"):
        message = f"namespace {namespace_of(name)} is being deleted"
        return ConditionResult(status=False, reason="Terminating", message=message)
    queues = observation.queues or {}
    for quota in project.spec.quotas:
        queue = cluster_queue_of(name, quota.pool)
        queue_conditions = queues.get(queue, {}).get("status", {}).get("conditions", ())
        active = [item for item in queue_conditions if item["type"] == "Active"]
        if not active:
            message = f"Kueue has not reconciled ClusterQueue {queue} yet"
            return ConditionResult(status=False, reason="QueueNotReconciled", message=message)
        if active[0]["status"] != "True":
            message = f"ClusterQueue {queue}: {active[0].get('message') or active[0].get('reason')}"
            return ConditionResult(status=False, reason="QueueInactive", message=message)
    count = len(project.spec.quotas)
    message = f"namespace {namespace_of(name)} and {count} queue{'' if count == 1 else 's'} are ready"
    return ConditionResult(status=True, reason="Reconciled", message=message)


def _overcommitted_condition(rows: Sequence[QuotaUse]) -> ConditionResult:
    excess = [f"{row.overcommitted} of pool {row.pool}" for row in rows if row.overcommitted]
    if excess:
        message = f"workloads hold GPUs above the quota: {join_limited(excess)}; no workload starts until they end"
        return ConditionResult(status=True, reason="UsageAboveQuota", message=message)
    return ConditionResult(status=False, reason="WithinQuota", message="usage is within the quotas")
