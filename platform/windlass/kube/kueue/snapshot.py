"""Converts Kueue objects into the input of ``windlass.domain.quota``: same ledger and predictions as in embedded mode.

A pool is a flavor with the resource that counts its GPUs. A job requests the pool of its ClusterQueue; if a queue that
Windlass did not create has several pools, the first. Excluded are workloads that have ended, workloads without quota
that are inactive, in requeue back-off or without a queue, and workloads without GPUs, which Kueue admits without quota.
``unsupported_settings`` lists Kueue settings that the domain's rules do not cover.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from windlass.domain.quota.model import PoolState, Quota, ResourceDemand, Snapshot
from windlass.kube.kueue.queues import ClusterQueue, Cohort, LocalQueue, ResourceQuota
from windlass.kube.kueue.workload import Workload
from windlass.kube.resources import GPUPool

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class KueueState:
    """The objects that quota depends on. ``now`` decides whether a requeue back-off is over."""

    now: datetime
    pools: tuple[GPUPool, ...]
    cluster_queues: tuple[ClusterQueue, ...] = ()
    local_queues: tuple[LocalQueue, ...] = ()
    cohorts: tuple[Cohort, ...] = ()
    workloads: tuple[Workload, ...] = ()

    @cached_property
    def _queues(self) -> Mapping[str, ClusterQueue]:
        return {queue.metadata.name: queue for queue in self.cluster_queues}

    @cached_property
    def _local_queues(self) -> Mapping[str, LocalQueue]:
        return {queue.key: queue for queue in self.local_queues}

    @cached_property
    def resources(self) -> Mapping[str, str]:
        """The GPU resource name of each pool."""
        return {pool.metadata.name: pool.spec.resource_name for pool in self.pools}

    @cached_property
    def jobs(self) -> Mapping[str, str]:
        """The job of each unfinished workload, by ``namespace/name``: the ``job`` of its demand.

        If several workloads belong to one owner, each uses its own name.
        """
        live = [workload for workload in self.workloads if not workload.finished]
        counts = Counter(workload.job for workload in live)
        return {workload.key: workload.job if counts[workload.job] == 1 else workload.key for workload in live}

    @cached_property
    def _workloads(self) -> Mapping[str, Workload]:
        return {workload.key: workload for workload in self.workloads}

    def held_by_replaced_slice(self, workload: Workload, resource: str) -> int:
        """Return how much of a resource the slice holds whose place a workload takes."""
        replaced = self._workloads.get(workload.replaced_slice or "")
        return replaced.reserved(resource) if replaced is not None and not replaced.finished else 0

    def pools_of(self, queue: ClusterQueue) -> tuple[str, ...]:
        """Return the pools that a queue has GPU quota of. Flavors of other resources, as pods, are not pools."""
        return tuple(
            name for name in queue.flavors if name in self.resources and queue.quota(name, self.resources[name])
        )

    def pool_of(self, queue: ClusterQueue) -> str:
        """Return the first pool of a queue; empty if it has no GPU quota."""
        return next(iter(self.pools_of(queue)), "")

    def local_queue_of(self, workload: Workload) -> LocalQueue | None:
        """Return the LocalQueue that a workload names."""
        return self._local_queues.get(f"{workload.metadata.namespace}/{workload.spec.queue_name}")

    def cluster_queue(self, name: str) -> ClusterQueue | None:
        """Return a ClusterQueue by its name."""
        return self._queues.get(name)

    def queue_of(self, workload: Workload) -> ClusterQueue | None:
        """Return the ClusterQueue that a workload waits in or holds quota of; None if it does not exist."""
        if workload.status.admission is not None:
            return self._queues.get(workload.status.admission.cluster_queue)
        local_queue = self.local_queue_of(workload)
        return self._queues.get(local_queue.spec.cluster_queue) if local_queue else None


def snapshot_from_cluster(state: KueueState, *, bounded: bool = False) -> Snapshot:
    """Return the domain's snapshot.

    Kueue does not know the number of GPUs or the limit per job, so pools have neither here and predictions match Kueue.
    With ``bounded``, pools have the capacity of their status: ``check_quotas`` needs it to detect overcommitment.
    """
    stopped = {local_queue.spec.cluster_queue for local_queue in state.local_queues if local_queue.stopped}
    return Snapshot(
        pools=tuple(_pool(pool, bounded=bounded) for pool in state.pools),
        quotas=tuple(
            Quota(
                project=queue.project,
                pool=pool,
                nominal=quota.nominal,
                borrowing_limit=quota.borrows,
                lending_limit=quota.lends,
                stopped=queue.stopped or queue.metadata.name in stopped,
            )
            for queue, pool, quota in _quotas(state)
        ),
        cohorts={queue.project: queue.spec.cohort_name or None for queue in state.cluster_queues},
        demands=demands_from_workloads(state),
    )


def _pool(pool: GPUPool, *, bounded: bool) -> PoolState:
    return PoolState(name=pool.metadata.name, capacity=pool.status.capacity if bounded else None)


def _quotas(state: KueueState) -> Iterator[tuple[ClusterQueue, str, ResourceQuota]]:
    for queue in state.cluster_queues:
        for pool in state.pools_of(queue):
            if quota := queue.quota(pool, state.resources[pool]):
                yield queue, pool, quota


def demands_from_workloads(state: KueueState) -> tuple[ResourceDemand, ...]:
    """Return the demands of all workloads: at most one of a pending workload, one per pool in which others hold GPUs.

    A workload requests GPUs of the pool of its queue, and holds those of its assigned flavors, until its pods are gone.
    A slice of an elastic workload requests those that it has in addition to the slice whose place it takes.
    """
    return tuple(demand for workload in state.workloads for demand in _demands(state, workload))


def _demands(state: KueueState, workload: Workload) -> Iterator[ResourceDemand]:
    queue = state.queue_of(workload)
    if workload.finished or queue is None:
        return
    if workload.quota_reserved:
        reserved = [pool for pool, resource in state.resources.items() if pool in workload.flavors(resource)]
        for pool in reserved:
            job = state.jobs[workload.key] if len(reserved) == 1 else f"{workload.key} in {pool}"
            if gpus := workload.reserved(state.resources[pool]):
                yield _demand(workload, queue, job, pool, gpus)
    elif _is_pending(workload, state.now) and (pool := state.pool_of(queue)):
        resource = state.resources[pool]
        gpus = workload.requested(resource) - state.held_by_replaced_slice(workload, resource)
        if gpus > 0:
            yield _demand(workload, queue, state.jobs[workload.key], pool, gpus)


def _is_pending(workload: Workload, now: datetime) -> bool:
    if not workload.spec.active or workload.metadata.deletion_timestamp is not None:
        return False
    requeue_at = workload.status.requeue_state.requeue_at
    return requeue_at is None or requeue_at <= now


def _demand(workload: Workload, queue: ClusterQueue, job: str, pool: str, gpus: int) -> ResourceDemand:
    reserved = workload.condition("QuotaReserved") if workload.quota_reserved else None
    is_terminating = workload.evicted or not workload.spec.active or workload.metadata.deletion_timestamp is not None
    queued = workload.queued_at or _EPOCH
    return ResourceDemand(
        job=job,
        project=queue.project,
        pool=pool,
        gpus=gpus,
        priority=workload.spec.priority,
        queued_at=queued,
        admitted_at=(reserved.last_transition_time or queued) if reserved else None,
        terminating=reserved is not None and is_terminating,
        tiebreak=workload.metadata.uid,
    )


def unsupported_settings(state: KueueState) -> tuple[str, ...]:
    """Return a message for each Kueue setting that Windlass does not create and that makes predictions inaccurate."""
    messages = []
    for cohort in state.cohorts:
        if cohort.spec.parent_name:
            messages.append(f"cohort {cohort.key} has a parent: borrowing beyond one level is not predicted")
        if cohort.spec.resource_groups:
            messages.append(f"cohort {cohort.key} has quota of its own, which is not counted")
    for queue, _, _ in _quotas(state):
        policies = (
            queue.spec.queueing_strategy,
            queue.spec.preemption.reclaim_within_cohort,
            queue.spec.preemption.within_cluster_queue,
        )
        if policies != ("StrictFIFO", "Any", "LowerPriority"):
            messages.append(f"ClusterQueue {queue.key} has another queueing or preemption policy than Windlass queues")
        if len(state.pools_of(queue)) > 1:
            messages.append(f"ClusterQueue {queue.key} has several pools: only the first is used")
    return tuple(dict.fromkeys(messages))
