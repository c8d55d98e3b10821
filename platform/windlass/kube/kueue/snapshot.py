"""Readings -> the input of ``windlass.domain.quota``: the same ledger and predictions as in embedded mode.

A pool is a flavor and the resource that its GPUs are counted in. A job wants the pool of its ClusterQueue; where a
queue that Windlass has not made offers several pools, its first. Left out are workloads that ended, that hold nothing
and are switched off, wait for a back-off or have no queue, and those that ask for no GPU: Kueue admits the latter
without quota. What Windlass never renders, and the domain's rules do not know, ``unmodelled`` names.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from windlass.domain.quota.model import Claim, PoolState, Quota, Snapshot
from windlass.kube.kueue.queues import ClusterQueue, Cohort, LocalQueue, ResourceQuota
from windlass.kube.kueue.workload import Workload
from windlass.kube.resources import GPUPool

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class ClusterState:
    """Everything that quota depends on, as it was read. ``now`` decides whether a back-off is over."""

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
    def _doors(self) -> Mapping[str, LocalQueue]:
        return {door.key: door for door in self.local_queues}

    @cached_property
    def resources(self) -> Mapping[str, str]:
        """The resource that each pool's GPUs are counted in."""
        return {pool.metadata.name: pool.spec.resource_name for pool in self.pools}

    @cached_property
    def jobs(self) -> Mapping[str, str]:
        """The job of each live workload, by ``namespace/name``: what its claim is called.

        Where several workloads belong to one owner, each goes by its own name.
        """
        live = [one for one in self.workloads if not one.finished]
        times = Counter(one.job for one in live)
        return {one.key: one.job if times[one.job] == 1 else one.key for one in live}

    def pools_of(self, queue: ClusterQueue) -> tuple[str, ...]:
        """Return the pools whose GPUs a queue gives. Flavors of other resources are none, as one that counts pods."""
        return tuple(
            name for name in queue.flavors if name in self.resources and queue.quota(name, self.resources[name])
        )

    def pool_of(self, queue: ClusterQueue) -> str:
        """Return the pool that a queue is for; empty when it gives no GPUs that we know."""
        return next(iter(self.pools_of(queue)), "")

    def door_of(self, workload: Workload) -> LocalQueue | None:
        """Return the LocalQueue that a workload names."""
        return self._doors.get(f"{workload.metadata.namespace}/{workload.spec.queue_name}")

    def cluster_queue(self, name: str) -> ClusterQueue | None:
        """Return a ClusterQueue by its name."""
        return self._queues.get(name)

    def queue_of(self, workload: Workload) -> ClusterQueue | None:
        """Return the ClusterQueue that a workload waits in or holds quota of; None when its name leads nowhere."""
        if workload.status.admission is not None:
            return self._queues.get(workload.status.admission.cluster_queue)
        door = self.door_of(workload)
        return self._queues.get(door.spec.cluster_queue) if door else None


def take_snapshot(state: ClusterState, *, bounded: bool = False) -> Snapshot:
    """Return what a decision depends on.

    Kueue knows neither how many GPUs there are nor what one job may have, so that pools have no capacity and no limit
    here, and predictions are what it does.
    With ``bounded`` the pools have that of their status: for ``check_quotas``, which says when more was promised.
    """
    stopped = {door.spec.cluster_queue for door in state.local_queues if door.stopped}
    return Snapshot(
        pools=tuple(_pool(pool, bounded=bounded) for pool in state.pools),
        quotas=tuple(
            Quota(
                project=queue.project,
                pool=pool,
                nominal=given.nominal,
                borrowing_limit=given.borrows,
                lending_limit=given.lends,
                stopped=queue.stopped or queue.metadata.name in stopped,
            )
            for queue, pool, given in _quotas(state)
        ),
        cohorts={queue.project: queue.spec.cohort_name or None for queue in state.cluster_queues},
        claims=tuple(claim for workload in state.workloads for claim in _claims(state, workload)),
    )


def _pool(pool: GPUPool, *, bounded: bool) -> PoolState:
    return PoolState(name=pool.metadata.name, capacity=pool.status.capacity if bounded else None)


def _quotas(state: ClusterState) -> Iterator[tuple[ClusterQueue, str, ResourceQuota]]:
    for queue in state.cluster_queues:
        for pool in state.pools_of(queue):
            if given := queue.quota(pool, state.resources[pool]):
                yield queue, pool, given


def _claims(state: ClusterState, workload: Workload) -> Iterator[Claim]:
    """Yield a workload's claims: none or one, but one for each pool that it holds GPUs of."""
    queue = state.queue_of(workload)
    if workload.finished or queue is None:
        return
    if workload.reserves:
        held = [pool for pool, resource in state.resources.items() if pool in workload.flavors(resource)]
        for pool in held:
            job = state.jobs[workload.key] if len(held) == 1 else f"{workload.key} in {pool}"
            if gpus := workload.held(state.resources[pool]):
                yield _claim(workload, queue, job, pool, gpus)
    elif _competes(workload, state.now) and (pool := state.pool_of(queue)):
        gpus = workload.asked(state.resources[pool])
        if gpus:
            yield _claim(workload, queue, state.jobs[workload.key], pool, gpus)


def _competes(workload: Workload, now: datetime) -> bool:
    if not workload.spec.active or workload.metadata.deletion_timestamp is not None:
        return False
    again = workload.status.requeue_state.requeue_at
    return again is None or again <= now


def _claim(workload: Workload, queue: ClusterQueue, job: str, pool: str, gpus: int) -> Claim:
    reserved = workload.condition("QuotaReserved") if workload.reserves else None
    leaves = workload.evicted or not workload.spec.active or workload.metadata.deletion_timestamp is not None
    queued = workload.metadata.creation_timestamp or _EPOCH
    return Claim(
        job=job,
        project=queue.project,
        pool=pool,
        gpus=gpus,
        priority=workload.spec.priority,
        queued_at=queued,
        admitted_at=(reserved.last_transition_time or queued) if reserved else None,
        leaving=reserved is not None and leaves,
        tiebreak=workload.metadata.uid,
    )


def unmodelled(state: ClusterState) -> tuple[str, ...]:
    """Return what makes predictions unsure: settings of Kueue that Windlass does not make and its rules do not know."""
    found = []
    for cohort in state.cohorts:
        if cohort.spec.parent_name:
            found.append(f"cohort {cohort.key} has a parent: borrowing beyond one level is not predicted")
        if cohort.spec.resource_groups:
            found.append(f"cohort {cohort.key} has quota of its own, which is not counted")
    for queue, _, _ in _quotas(state):
        policies = (
            queue.spec.queueing_strategy,
            queue.spec.preemption.reclaim_within_cohort,
            queue.spec.preemption.within_cluster_queue,
        )
        if policies != ("StrictFIFO", "Any", "LowerPriority"):
            found.append(f"ClusterQueue {queue.key} queues or preempts otherwise than the queues of Windlass")
        if len(state.pools_of(queue)) > 1:
            found.append(f"ClusterQueue {queue.key} offers several pools: the first is taken for the one")
    return tuple(dict.fromkeys(found))
