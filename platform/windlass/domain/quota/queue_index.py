"""The queues of all pools, kept up to date in place, so that a decision costs what has changed and not the queue.

``QueueIndex`` gives the same answers as ``schedule`` on a snapshot of everything it contains. It calls ``schedule``
with fewer demands: a queue is considered from its head, and everything behind the first job that is not admitted has
no influence. So the first few jobs of each queue are enough; if all of these are admitted, more are taken.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from windlass.domain.quota.model import Decisions, PoolState, Quota, ResourceDemand, Snapshot
from windlass.domain.quota.queue_decisions import QueueDecision
from windlass.domain.quota.scheduling import schedule

_Key = tuple[int, datetime, str, str]
"""The order of a queue: priority (descending), time queued, tie-break key, job id."""

_WIDTH = 8
"""Jobs of each queue that are considered first."""


def _key(demand: ResourceDemand) -> _Key:
    return -demand.priority, demand.queued_at, demand.rank, demand.job


@dataclass
class _PoolQueues:
    """The demands of one pool: the pending ones in order, by project, and the admitted ones."""

    pending: dict[str, list[_Key]] = field(default_factory=dict)
    admitted: dict[str, ResourceDemand] = field(default_factory=dict)
    sizes: Counter[int] = field(default_factory=Counter)
    """Number of pending demands by GPUs."""


class QueueIndex:
    """Pools, quotas, cohorts and resource demands."""

    def __init__(self) -> None:
        self._pools: dict[str, PoolState] = {}
        self._quotas: dict[tuple[str, str], Quota] = {}
        self._cohorts: dict[str, str | None] = {}
        self._demands: dict[str, ResourceDemand] = {}
        self._queues: dict[str, _PoolQueues] = {}
        self.changed: set[str] = set()
        """Pools in which a decision may differ from the last one."""

    def set_pool(self, pool: PoolState) -> None:
        """Add or replace a pool."""
        self._pools[pool.name] = pool
        self.changed.add(pool.name)

    def set_quota(self, quota: Quota) -> None:
        """Add or replace a quota."""
        self._quotas[quota.pool, quota.project] = quota
        self.changed.add(quota.pool)

    def set_cohort(self, project: str, cohort: str | None) -> None:
        """Set the cohort of a project."""
        self._cohorts[project] = cohort
        self.changed.update(pool for pool, name in self._quotas if name == project)

    def put(self, demand: ResourceDemand) -> None:
        """Add or replace the demand of a job."""
        self.remove(demand.job)
        self._demands[demand.job] = demand
        queues = self._queues.setdefault(demand.pool, _PoolQueues())
        if demand.admitted_at is not None:
            queues.admitted[demand.job] = demand
            self.changed.add(demand.pool)
            return
        queue = queues.pending.setdefault(demand.project, [])
        place = bisect_left(queue, _key(demand))
        queue.insert(place, _key(demand))
        queues.sizes[demand.gpus] += 1
        if place < _WIDTH or self._has_oversized(demand.pool):
            self.changed.add(demand.pool)

    def remove(self, job: str) -> None:
        """Remove the demand of a job, if it has one."""
        demand = self._demands.pop(job, None)
        if demand is None:
            return
        queues = self._queues[demand.pool]
        self.changed.add(demand.pool)
        if demand.admitted_at is not None:
            del queues.admitted[job]
            return
        queue = queues.pending[demand.project]
        del queue[bisect_left(queue, _key(demand))]
        queues.sizes[demand.gpus] -= 1

    def snapshot(self) -> Snapshot:
        """Return everything."""
        return self.limits().model_copy(update={"demands": tuple(self._demands.values())})

    def limits(self) -> Snapshot:
        """Return pools, quotas and cohorts, without demands."""
        return Snapshot(
            pools=tuple(self._pools.values()), quotas=tuple(self._quotas.values()), cohorts=dict(self._cohorts)
        )

    def decide(self, pool: str) -> Decisions:
        """Return the jobs of a pool to admit and to preempt; ``waiting`` is empty."""
        decisions = self._schedule(pool, ())
        return Decisions(admit=decisions.admit, preempt=decisions.preempt, waiting={})

    def explain(self, jobs: Collection[str]) -> dict[str, QueueDecision]:
        """Return why these jobs wait; jobs that do not wait, or that the next decision admits, are left out."""
        by_pool: dict[str, list[ResourceDemand]] = {}
        for job in jobs:
            demand = self._demands.get(job)
            if demand is not None and demand.admitted_at is None:
                by_pool.setdefault(demand.pool, []).append(demand)
        explained: dict[str, QueueDecision] = {}
        for pool, demands in by_pool.items():
            decisions = self._schedule(pool, demands)
            admitted = set(decisions.admit)
            for demand in demands:
                decision = decisions.waiting.get(demand.job)
                if decision is not None:
                    explained[demand.job] = self._with_position(demand, decision, admitted)
        return explained

    def _with_position(self, demand: ResourceDemand, decision: QueueDecision, admitted: set[str]) -> QueueDecision:
        """Return the decision with the job's place in its whole queue."""
        if decision.position is None:
            return decision
        queues = self._queues[demand.pool]
        queue = queues.pending[demand.project]
        place = bisect_left(queue, _key(demand))
        ahead = sum(1 for job in admitted if self._is_ahead(job, demand))
        if self._has_oversized(demand.pool):
            ahead += sum(1 for key in queue[:place] if not self._enters(demand.pool, self._demands[key[-1]].gpus))
        return replace(decision, position=place - ahead + 1)

    def _is_ahead(self, job: str, demand: ResourceDemand) -> bool:
        other = self._demands[job]
        return other.project == demand.project and _key(other) < _key(demand)

    def _has_oversized(self, pool: str) -> bool:
        sizes = self._queues[pool].sizes if pool in self._queues else {}
        return any(number and not self._enters(pool, gpus) for gpus, number in sizes.items())

    def _enters(self, pool: str, gpus: int) -> bool:
        """Return whether a job of this size enters a queue of the pool; a larger one does not block others."""
        state = self._pools.get(pool)
        return state is not None and all(
            limit is None or gpus <= limit for limit in (state.capacity, state.max_gpus_per_job)
        )

    def _schedule(self, pool: str, demands: Iterable[ResourceDemand]) -> Decisions:
        """Run the scheduler on the admitted jobs of a pool, the first jobs of each queue, and ``demands``."""
        queues = self._queues.get(pool, _PoolQueues())
        # A job that is too large for the pool does not block those behind it, so no bound on the queues holds. There is
        # one only after a limit was lowered: submission rejects it.
        width = max(map(len, queues.pending.values()), default=_WIDTH) if self._has_oversized(pool) else _WIDTH
        while True:
            heads = {
                project: [key[-1] for key in queue[:width]]
                for project, queue in queues.pending.items()
                if queue and self._may_start(pool, project)
            }
            considered = {job: self._demands[job] for jobs in heads.values() for job in jobs}
            considered.update({demand.job: demand for demand in demands})
            decisions = schedule(self._snapshot(pool, (*queues.admitted.values(), *considered.values())))
            if all(
                len(queues.pending[project]) <= width or _any_in_queue(jobs, decisions.waiting)
                for project, jobs in heads.items()
            ):
                return decisions
            width *= 4

    def _may_start(self, pool: str, project: str) -> bool:
        quota = self._quotas.get((pool, project))
        return quota is not None and not quota.stopped

    def _snapshot(self, pool: str, demands: tuple[ResourceDemand, ...]) -> Snapshot:
        state = self._pools.get(pool)
        return Snapshot(
            pools=() if state is None else (state,),
            quotas=tuple(quota for (name, _), quota in self._quotas.items() if name == pool),
            cohorts=self._cohorts,
            demands=demands,
        )


def _any_in_queue(jobs: Iterable[str], waiting: Mapping[str, QueueDecision]) -> bool:
    return any(job in waiting and waiting[job].position is not None for job in jobs)
