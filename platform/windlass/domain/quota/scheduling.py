"""The scheduler: admission cycles over the queue heads of each pool until a fixed point."""

import heapq
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from operator import attrgetter

from windlass.domain.quota.model import Decisions, PoolState, Preemption, ResourceDemand, Snapshot
from windlass.domain.quota.pool_usage import PoolUsage, QuotaLimits, by_pool, limits_by_project
from windlass.domain.quota.preemption import Candidate, Victim, choose_victims
from windlass.domain.quota.queue_decisions import QueueDecision, QuotaCode, Suggestion

_Entry = tuple[int, datetime, str, str, ResourceDemand]
"""A pending demand in queue order: priority (descending), time queued, tie-break key, job id."""

_candidate_order = attrgetter("order")


def schedule(snapshot: Snapshot) -> Decisions:
    """Return the jobs to admit, the jobs to preempt and, for every other pending job, why it waits.

    A job that needs preemption is admitted only after its victims have stopped: call again when their demands are
    removed or pending. Pools are independent.
    """
    admit: list[str] = []
    preempt: list[Preemption] = []
    waiting: dict[str, QueueDecision] = {}
    quotas, demands = by_pool(snapshot.quotas), by_pool(snapshot.demands)
    known = {pool.name for pool in snapshot.pools}
    for demand in snapshot.demands:
        if demand.pool not in known and demand.admitted_at is None:
            waiting[demand.job] = QueueDecision(QuotaCode.UNKNOWN_POOL, demand.pool, demand.gpus)
    for pool in snapshot.pools:
        pool_demands = demands.get(pool.name, [])
        limits = limits_by_project(quotas.get(pool.name, []), pool_demands, snapshot.cohorts)
        scheduler = _PoolScheduler(pool, limits, pool_demands)
        scheduler.run_cycles()
        admit += scheduler.admitted
        preempt += scheduler.preemptions
        waiting.update(scheduler.decisions())
    return Decisions(admit=tuple(admit), preempt=tuple(preempt), waiting=waiting)


class _Mode(Enum):
    """The assignment mode of a queue head (Kueue's Fit, Preempt and NoFit)."""

    FIT = auto()
    PREEMPT = auto()
    WAIT = auto()


@dataclass(slots=True)
class _Nomination:
    """One queue head in one cycle. A PREEMPT without victims waits for jobs that are already terminating."""

    demand: ResourceDemand
    mode: _Mode
    borrows: bool = False
    victims: tuple[Victim, ...] = ()
    reserved: bool = False

    @property
    def order(self) -> tuple[bool, int, datetime, str]:
        """Within nominal quota first, then priority, then time queued."""
        return self.borrows, -self.demand.priority, self.demand.queued_at, self.demand.rank


@dataclass(slots=True)
class _Cycle:
    """The state of one cycle. ``projected`` is the usage after every terminating job has stopped."""

    projected: PoolUsage
    stopped: set[str] = field(default_factory=set)
    changed: bool = False


class _PoolScheduler:
    """Schedules one pool. ``usage`` counts all admitted jobs, terminating ones included."""

    def __init__(self, pool: PoolState, limits: dict[str, QuotaLimits], demands: Iterable[ResourceDemand]) -> None:
        self.pool = pool
        self.usage = PoolUsage(pool.capacity, limits.values())
        self.admitted: list[str] = []
        self.preemptions: list[Preemption] = []
        self._limits = limits
        self._newly_admitted: dict[str, Candidate] = {}
        self._rejected: dict[str, QueueDecision] = {}
        self._queues: dict[str, list[_Entry]] = {}
        self._terminating: dict[str, ResourceDemand] = {}
        self._preempted: dict[str, Candidate] = {}
        self._nominations: dict[str, _Nomination] = {}
        self._projected = self.usage
        admitted_demands: list[ResourceDemand] = []
        for demand in demands:
            if demand.admitted_at is None:
                self._enqueue(demand)
                continue
            self.usage.add(demand.project, demand.gpus)
            if demand.terminating:
                self._terminating[demand.job] = demand
            else:
                admitted_demands.append(demand)
        ranks = {at: rank for rank, at in enumerate(sorted({c.admitted_at for c in admitted_demands if c.admitted_at}))}
        self._next_rank = len(ranks)
        self._candidates = sorted(
            (Candidate(c, ranks[c.admitted_at]) for c in admitted_demands if c.admitted_at is not None),
            key=_candidate_order,
        )

    def run_cycles(self) -> None:
        """Run cycles until one changes nothing.

        Every cycle but the last admits or preempts a job. A job admitted in this run can lose its admission again, so
        the number of cycles has an explicit upper bound, far above what is needed.
        """
        for _ in range(4 * (len(self._candidates) + sum(map(len, self._queues.values()))) + 4):
            if not self._cycle():
                return

    def _enqueue(self, demand: ResourceDemand) -> None:
        rejection = self._rejection(demand)
        if rejection is not None:
            self._rejected[demand.job] = rejection
        else:
            heapq.heappush(
                self._queues.setdefault(demand.project, []),
                (-demand.priority, demand.queued_at, demand.rank, demand.job, demand),
            )

    def _rejection(self, demand: ResourceDemand) -> QueueDecision | None:
        """Return the decision for a demand that does not enter its queue and so does not block it; None: it enters."""
        limits, pool, maximum = self._limits.get(demand.project), self.pool, self.pool.max_gpus_per_job
        code: QuotaCode | None = None
        limit: int | None = None
        if limits is None or not limits.quota:
            code = QuotaCode.NO_QUOTA_IN_POOL
        elif limits.stopped:
            code = QuotaCode.QUEUE_STOPPED
        elif pool.capacity is not None and demand.gpus > pool.capacity:
            code, limit = QuotaCode.EXCEEDS_POOL_CAPACITY, pool.capacity
        elif maximum is not None and demand.gpus > maximum:
            code, limit = QuotaCode.EXCEEDS_JOB_LIMIT, maximum
        if code is None:
            return None
        suggestions = self._suggestions(demand, code)
        return QueueDecision(code, pool.name, demand.gpus, pool.unit, limit=limit, suggestions=suggestions)

    def _suggestions(self, demand: ResourceDemand, code: QuotaCode) -> tuple[Suggestion, ...]:
        """Return the smallest changes, at most one for the user and one for an admin, that resolve ``code``."""
        gpus, pool = demand.gpus, self.pool
        if code is QuotaCode.QUEUE_STOPPED:
            return ()
        if code is QuotaCode.NO_QUOTA_IN_POOL:
            possible = all(maximum is None or gpus <= maximum for maximum in (pool.capacity, pool.max_gpus_per_job))
            return (Suggestion(kind="raise_nominal", by=gpus, to=gpus),) if possible else ()
        limits, ceiling = self._limits[demand.project], self.usage.ceiling(demand.project)
        suggestions = []
        fits = min(bound for bound in (ceiling, pool.capacity, pool.max_gpus_per_job) if bound is not None)
        if fits > 0:
            suggestions.append(Suggestion(kind="reduce_gpus", by=gpus - fits, to=fits))
        missing = gpus - ceiling
        if code is QuotaCode.EXCEEDS_JOB_LIMIT and pool.max_gpus_per_job is not None and missing <= 0:
            suggestions.append(Suggestion(kind="raise_job_limit", by=gpus - pool.max_gpus_per_job, to=gpus))
        if code is QuotaCode.EXCEEDS_MAX_QUOTA:
            limit = limits.borrowing_limit
            if limit is not None and self.usage.ceiling(demand.project, limited=False) >= gpus:
                suggestions.append(Suggestion(kind="raise_borrowing_limit", by=missing, to=limit + missing))
            else:
                suggestions.append(Suggestion(kind="raise_nominal", by=missing, to=limits.nominal + missing))
        return tuple(suggestions)

    def _cycle(self) -> bool:
        projected = self.usage.copy()
        for demand in self._terminating.values():
            projected.add(demand.project, -demand.gpus)
        cycle = _Cycle(projected)
        self._nominations = {
            project: self._nominate(queue[0][-1], projected) for project, queue in self._queues.items() if queue
        }
        for nomination in sorted(self._nominations.values(), key=_candidate_order):
            if nomination.mode is not _Mode.WAIT:
                self._process(nomination, cycle)
        self._projected = projected
        return cycle.changed

    def _nominate(self, demand: ResourceDemand, projected: PoolUsage) -> _Nomination:
        project, usage = demand.project, self.usage
        cohort = usage.limits(project).cohort is not None
        if demand.gpus <= usage.available(project):
            return _Nomination(demand, _Mode.FIT, cohort and projected.borrowing(project, demand.gpus))
        victims: tuple[Victim, ...] = ()
        if demand.gpus > projected.available(project):
            victims = choose_victims(demand, projected, self._candidates)
            if not victims:
                return _Nomination(demand, _Mode.WAIT)
        released = sum(v.candidate.demand.gpus for v in victims if v.candidate.demand.project == project)
        borrows = cohort and projected.borrowing(project, demand.gpus - released)
        return _Nomination(demand, _Mode.PREEMPT, borrows, victims)

    def _process(self, nomination: _Nomination, cycle: _Cycle) -> None:
        demand, projected = nomination.demand, cycle.projected
        stopped = {victim.candidate.demand.job for victim in nomination.victims}
        overtaken = self._queues[demand.project][0][-1] is not demand
        if overtaken or stopped & cycle.stopped:
            return
        for victim in nomination.victims:
            projected.add(victim.candidate.demand.project, -victim.candidate.demand.gpus)
        if demand.gpus > projected.available(demand.project):
            for victim in nomination.victims:
                projected.add(victim.candidate.demand.project, victim.candidate.demand.gpus)
            return
        projected.add(demand.project, demand.gpus)
        if nomination.mode is _Mode.FIT:
            # Kueue already counts GPUs of terminating jobs as free here; two jobs would then share them for a while.
            if demand.gpus <= self.usage.available(demand.project):
                self._admit(demand)
                cycle.changed = True
            return
        nomination.reserved = True
        cycle.stopped |= stopped
        for victim in nomination.victims:
            self._stop(victim, demand)
            cycle.changed = True

    def _admit(self, demand: ResourceDemand) -> None:
        heapq.heappop(self._queues[demand.project])
        self.usage.add(demand.project, demand.gpus)
        self.admitted.append(demand.job)
        self._newly_admitted[demand.job] = candidate = Candidate(demand, self._next_rank)
        self._next_rank += 1
        insort(self._candidates, candidate, key=_candidate_order)
        self._cancel_preemptions_by(demand.job)

    def _cancel_preemptions_by(self, job: str) -> None:
        """Revoke this run's preemptions for a job that was admitted without them; none has been carried out yet."""
        for preemption in [each for each in self.preemptions if each.by == job]:
            self.preemptions.remove(preemption)
            insort(self._candidates, self._preempted.pop(preemption.job), key=_candidate_order)
            del self._terminating[preemption.job]

    def _stop(self, victim: Victim, by: ResourceDemand) -> None:
        demand = victim.candidate.demand
        self._candidates.remove(victim.candidate)
        if self._newly_admitted.pop(demand.job, None) is not None:
            # Admitted in this run and not started: return it to its place in the queue.
            self.admitted.remove(demand.job)
            self.usage.add(demand.project, -demand.gpus)
            self._enqueue(demand)
            return
        self._terminating[demand.job] = demand
        self._preempted[demand.job] = victim.candidate
        self.preemptions.append(Preemption(job=demand.job, by=by.job, reason=victim.reason))

    def decisions(self) -> dict[str, QueueDecision]:
        """Return why each pending job waits; call after ``run_cycles``."""
        decisions = dict(self._rejected)
        for project, queue in self._queues.items():
            if queue:
                decisions.update(self._explain(project, [entry[-1] for entry in sorted(queue)]))
        return decisions

    def _explain(self, project: str, queue: list[ResourceDemand]) -> dict[str, QueueDecision]:
        ceiling, head = self.usage.ceiling(project), queue[0]
        free = max(0, min(self.usage.available(project), self._projected.available(project)))
        decisions: dict[str, QueueDecision] = {}
        for position, demand in enumerate(queue, start=1):
            if demand.gpus > ceiling:
                decisions[demand.job] = QueueDecision(
                    QuotaCode.EXCEEDS_MAX_QUOTA,
                    self.pool.name,
                    demand.gpus,
                    self.pool.unit,
                    position=position,
                    limit=ceiling,
                    suggestions=self._suggestions(demand, QuotaCode.EXCEEDS_MAX_QUOTA),
                )
            elif position == 1:
                decisions[demand.job] = self._explain_head(demand, free)
            else:
                blocked = demand.gpus <= free or head.gpus > ceiling
                decisions[demand.job] = QueueDecision(
                    QuotaCode.BEHIND_HEAD_OF_QUEUE if blocked else QuotaCode.WAITING_FOR_QUOTA,
                    self.pool.name,
                    demand.gpus,
                    self.pool.unit,
                    free=free,
                    position=position,
                    ahead=head.job,
                    head_never_starts=head.gpus > ceiling,
                )
        return decisions

    def _explain_head(self, demand: ResourceDemand, free: int) -> QueueDecision:
        project, usage = demand.project, self.usage
        maximum = self._limits[project].borrowing_limit
        code, limit = QuotaCode.WAITING_FOR_QUOTA, None
        terminating: tuple[str, ...] = ()
        if self._nominations[project].reserved:
            code, terminating = QuotaCode.WAITING_FOR_PREEMPTED, self._awaited_jobs(project)
        elif usage.available(project) < demand.gpus <= usage.available(project, limited=False):
            code, limit = QuotaCode.BORROWING_LIMIT_REACHED, maximum
        return QueueDecision(
            code,
            self.pool.name,
            demand.gpus,
            self.pool.unit,
            free=free,
            position=1,
            limit=limit,
            terminating=terminating,
        )

    def _awaited_jobs(self, project: str) -> tuple[str, ...]:
        """Return the terminating jobs whose GPUs the project's queue head can use."""
        cohort = self._limits[project].cohort
        same_cohort = [
            demand.job
            for demand in self._terminating.values()
            if demand.project == project or (cohort is not None and self._limits[demand.project].cohort == cohort)
        ]
        return tuple(same_cohort or self._terminating)
