"""Project: what it uses, borrows and lends, and whether all that it needs stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.quota import Claim, LedgerRow, PoolState, Quota, Snapshot, ledger
from windlass.kube.names import cluster_queue_of, namespace_of
from windlass.kube.objects import Object
from windlass.kube.resources import GPUPool, Project, ProjectStatus, condition
from windlass.kube.resources.project import Loan, QuotaUse
from windlass_operators.children import Refusal
from windlass_operators.decide import READY, Verdict, refused, some

OVERCOMMITTED = "Overcommitted"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a project's status depends on: projects and claims of its cohort are enough."""

    pools: Mapping[str, GPUPool]
    projects: Mapping[str, Project]
    claims: Sequence[Claim]
    namespace: Object | None = None
    queues: Mapping[str, Object] | None = None
    """ClusterQueues by name."""


def status(project: Project, seen: Seen, refusals: Sequence[Refusal], now: datetime) -> ProjectStatus:
    """Return the whole status of a project that is not being deleted."""
    rows = accounts(project, seen)
    ready = refused(refusals) or _unknown(project, seen) or _standing(project, seen)
    return said(project, rows, {READY: ready, OVERCOMMITTED: _beyond(rows)}, now)


def said(
    project: Project, rows: Sequence[QuotaUse], verdicts: Mapping[str, Verdict], now: datetime, namespace: str = ""
) -> ProjectStatus:
    """Return a status of these accounts and verdicts."""
    generation = project.metadata.generation
    return ProjectStatus(
        namespace=namespace or namespace_of(project.metadata.name),
        quotas=tuple(rows),
        used=sum(row.used for row in rows),
        nominal=sum(row.nominal for row in rows),
        pending=sum(row.pending for row in rows),
        observed_generation=generation,
        conditions=tuple(
            condition(
                project.status.conditions,
                kind,
                status=one.status,
                reason=one.reason,
                message=one.message,
                generation=generation,
                now=now,
            )
            for kind, one in verdicts.items()
        ),
    )


def accounts(project: Project, seen: Seen) -> tuple[QuotaUse, ...]:
    """Return a line for each quota, in the order of the spec, and for pools that it holds GPUs of without a quota."""
    name = project.metadata.name
    rows = {row.pool: row for row in ledger(_snapshot(seen)) if row.project == name}
    wished = [_use(rows[quota.pool]) if quota.pool in rows else _unused(quota) for quota in _quotas(project)]
    beyond = [_use(row) for pool, row in sorted(rows.items()) if pool not in {one.pool for one in wished}]
    return (*wished, *beyond)


def _snapshot(seen: Seen) -> Snapshot:
    """As Kueue sees it: what a pool has physically bounds nothing."""
    return Snapshot(
        pools=tuple(PoolState(name=name, capacity=None) for name in seen.pools),
        quotas=tuple(quota for one in seen.projects.values() for quota in _quotas(one) if quota.pool in seen.pools),
        cohorts={name: one.spec.cohort for name, one in seen.projects.items()},
        claims=tuple(claim for claim in seen.claims if claim.project in seen.projects and claim.pool in seen.pools),
    )


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
        overcommitted=row.unbacked,
        borrowed_from=tuple(Loan(project=other, gpus=gpus) for other, gpus in sorted(row.borrowed_from.items())),
        lent_to=tuple(Loan(project=other, gpus=gpus) for other, gpus in sorted(row.lent_to.items())),
        reclaimable=row.reclaimable,
        pending=row.pending,
    )


def _unknown(project: Project, seen: Seen) -> Verdict | None:
    missing = [quota.pool for quota in project.spec.quotas if quota.pool not in seen.pools]
    if not missing:
        return None
    message = f"there is no GPUPool {some(missing)}: its quota has no queue until there is one"
    return Verdict(status=False, reason="UnknownPool", message=message)


def _standing(project: Project, seen: Seen) -> Verdict:
    """Whether the namespace and all queues take work."""
    name = project.metadata.name
    if seen.namespace is None or seen.namespace["metadata"].get("deletionTimestamp"):
        message = f"namespace {namespace_of(name)} is being deleted"
        return Verdict(status=False, reason="Terminating", message=message)
    queues = seen.queues or {}
    for quota in project.spec.quotas:
        queue = cluster_queue_of(name, quota.pool)
        active = [
            one for one in queues.get(queue, {}).get("status", {}).get("conditions", ()) if one["type"] == "Active"
        ]
        if not active:
            message = f"Kueue has not looked at ClusterQueue {queue} yet"
            return Verdict(status=False, reason="QueueNotSeen", message=message)
        if active[0]["status"] != "True":
            message = f"ClusterQueue {queue}: {active[0].get('message') or active[0].get('reason')}"
            return Verdict(status=False, reason="QueueInactive", message=message)
    count = len(project.spec.quotas)
    message = f"namespace {namespace_of(name)} and {count} queue{'' if count == 1 else 's'} take work"
    return Verdict(status=True, reason="Reconciled", message=message)


def _beyond(rows: Sequence[QuotaUse]) -> Verdict:
    over = [f"{row.overcommitted} of pool {row.pool}" for row in rows if row.overcommitted]
    if over:
        message = f"workloads hold GPUs that no quota covers: {some(over)}; nothing new starts until they have ended"
        return Verdict(status=True, reason="HeldBeyondQuota", message=message)
    return Verdict(status=False, reason="WithinQuota", message="workloads hold no more than the quotas allow")
