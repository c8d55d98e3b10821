"""The scheduler: cycles over the heads of one pool's queues until nothing changes."""

import heapq
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from operator import attrgetter

from windlass.domain.quota.book import Book, Terms, by_pool, terms_by_project
from windlass.domain.quota.model import Claim, Decisions, PoolState, Preemption, Snapshot
from windlass.domain.quota.preemption import Holder, Victim, choose_victims
from windlass.domain.quota.verdicts import Change, Code, Verdict

_Entry = tuple[int, datetime, str, str, Claim]
"""A pending claim in queue order: priority descending, time queued, what breaks ties, id."""

_candidate_order = attrgetter("order")


def schedule(snapshot: Snapshot) -> Decisions:
    """Decide one complete step: who starts, who must stop, why everybody else waits.

    A job that waits for others to stop is not admitted before they are gone: call again when their claims are gone or
    pending. Pools do not influence each other.
    """
    admit: list[str] = []
    preempt: list[Preemption] = []
    waiting: dict[str, Verdict] = {}
    quotas, claims = by_pool(snapshot.quotas), by_pool(snapshot.claims)
    known = {pool.name for pool in snapshot.pools}
    for claim in snapshot.claims:
        if claim.pool not in known and claim.admitted_at is None:
            waiting[claim.job] = Verdict(Code.UNKNOWN_POOL, claim.pool, claim.gpus)
    for pool in snapshot.pools:
        here = claims.get(pool.name, [])
        run = _PoolRun(pool, terms_by_project(quotas.get(pool.name, []), here, snapshot.cohorts), here)
        run.settle()
        admit += run.admitted
        preempt += run.preemptions
        waiting.update(run.verdicts())
    return Decisions(admit=tuple(admit), preempt=tuple(preempt), waiting=waiting)


class _Mode(Enum):
    """How the head of a queue can go on (Kueue's Fit, Preempt and NoFit)."""

    FIT = auto()
    PREEMPT = auto()
    WAIT = auto()


@dataclass(slots=True)
class _Nomination:
    """One head in one cycle. A PREEMPT without victims waits for jobs that were told to stop before."""

    claim: Claim
    mode: _Mode
    borrows: bool = False
    victims: tuple[Victim, ...] = ()
    reserved: bool = False

    @property
    def order(self) -> tuple[bool, int, datetime, str]:
        """Within nominal quota first, then priority, then time queued."""
        return self.borrows, -self.claim.priority, self.claim.queued_at, self.claim.rank


@dataclass(slots=True)
class _Cycle:
    """What happens within one cycle. ``soon`` is the book as it will be when all who are told to stop are gone."""

    soon: Book
    stopped: set[str] = field(default_factory=set)
    changed: bool = False


class _PoolRun:
    """One pool being scheduled. ``now`` books whoever holds GPUs, those told to stop included."""

    def __init__(self, pool: PoolState, terms: dict[str, Terms], claims: Iterable[Claim]) -> None:
        self.pool = pool
        self.now = Book(pool.capacity, terms.values())
        self.admitted: list[str] = []
        self.preemptions: list[Preemption] = []
        self._terms = terms
        self._fresh: dict[str, Holder] = {}
        self._refused: dict[str, Verdict] = {}
        self._queues: dict[str, list[_Entry]] = {}
        self._leaving: dict[str, Claim] = {}
        self._stopped: dict[str, Holder] = {}
        self._nominations: dict[str, _Nomination] = {}
        self._soon = self.now
        holding: list[Claim] = []
        for claim in claims:
            if claim.admitted_at is None:
                self._enqueue(claim)
                continue
            self.now.add(claim.project, claim.gpus)
            if claim.leaving:
                self._leaving[claim.job] = claim
            else:
                holding.append(claim)
        ranks = {at: rank for rank, at in enumerate(sorted({c.admitted_at for c in holding if c.admitted_at}))}
        self._next_rank = len(ranks)
        self._holders = sorted(
            (Holder(c, ranks[c.admitted_at]) for c in holding if c.admitted_at is not None), key=_candidate_order
        )

    def settle(self) -> None:
        """Run cycles until one changes nothing.

        Every cycle but the last admits a job or stops one. A job can lose an admission of this run again (it has not
        started), so the number of cycles is bounded by force; the bound is far above what a run needs.
        """
        for _ in range(4 * (len(self._holders) + sum(map(len, self._queues.values()))) + 4):
            if not self._cycle():
                return

    def _enqueue(self, claim: Claim) -> None:
        refused = self._refusal(claim)
        if refused is not None:
            self._refused[claim.job] = refused
        else:
            heapq.heappush(
                self._queues.setdefault(claim.project, []),
                (-claim.priority, claim.queued_at, claim.rank, claim.job, claim),
            )

    def _refusal(self, claim: Claim) -> Verdict | None:
        """Return the verdict of a claim that never enters a queue, and so never holds one up."""
        terms, pool, most = self._terms.get(claim.project), self.pool, self.pool.max_gpus_per_job
        code: Code | None = None
        limit: int | None = None
        if terms is None or not terms.quota:
            code = Code.NO_QUOTA_IN_POOL
        elif terms.stopped:
            code = Code.QUEUE_STOPPED
        elif pool.capacity is not None and claim.gpus > pool.capacity:
            code, limit = Code.EXCEEDS_POOL_CAPACITY, pool.capacity
        elif most is not None and claim.gpus > most:
            code, limit = Code.EXCEEDS_JOB_LIMIT, most
        if code is None:
            return None
        return Verdict(code, pool.name, claim.gpus, pool.unit, limit=limit, changes=self._ways_in(claim, code))

    def _ways_in(self, claim: Claim, code: Code) -> tuple[Change, ...]:
        """Return the smallest changes, one for each who can act, that take ``code`` away for good."""
        gpus, pool = claim.gpus, self.pool
        if code is Code.QUEUE_STOPPED:
            return ()
        if code is Code.NO_QUOTA_IN_POOL:
            possible = all(most is None or gpus <= most for most in (pool.capacity, pool.max_gpus_per_job))
            return (Change(kind="raise_nominal", by=gpus, to=gpus),) if possible else ()
        terms, ceiling = self._terms[claim.project], self.now.ceiling(claim.project)
        changes = []
        fits = min(bound for bound in (ceiling, pool.capacity, pool.max_gpus_per_job) if bound is not None)
        if fits > 0:
            changes.append(Change(kind="reduce_gpus", by=gpus - fits, to=fits))
        missing = gpus - ceiling
        if code is Code.EXCEEDS_JOB_LIMIT and pool.max_gpus_per_job is not None and missing <= 0:
            changes.append(Change(kind="raise_job_limit", by=gpus - pool.max_gpus_per_job, to=gpus))
        if code is Code.EXCEEDS_MAX_QUOTA:
            limit = terms.borrowing_limit
            if limit is not None and self.now.ceiling(claim.project, limited=False) >= gpus:
                changes.append(Change(kind="raise_borrowing_limit", by=missing, to=limit + missing))
            else:
                changes.append(Change(kind="raise_nominal", by=missing, to=terms.nominal + missing))
        return tuple(changes)

    def _cycle(self) -> bool:
        soon = self.now.copy()
        for claim in self._leaving.values():
            soon.add(claim.project, -claim.gpus)
        cycle = _Cycle(soon)
        self._nominations = {
            project: self._nominate(queue[0][-1], soon) for project, queue in self._queues.items() if queue
        }
        for nomination in sorted(self._nominations.values(), key=_candidate_order):
            if nomination.mode is not _Mode.WAIT:
                self._process(nomination, cycle)
        self._soon = soon
        return cycle.changed

    def _nominate(self, claim: Claim, soon: Book) -> _Nomination:
        project, now = claim.project, self.now
        cohort = now.terms(project).cohort is not None
        if claim.gpus <= now.available(project):
            return _Nomination(claim, _Mode.FIT, cohort and soon.borrowing(project, claim.gpus))
        victims: tuple[Victim, ...] = ()
        if claim.gpus > soon.available(project):
            victims = choose_victims(claim, soon, self._holders)
            if not victims:
                return _Nomination(claim, _Mode.WAIT)
        given_back = sum(v.holder.claim.gpus for v in victims if v.holder.claim.project == project)
        borrows = cohort and soon.borrowing(project, claim.gpus - given_back)
        return _Nomination(claim, _Mode.PREEMPT, borrows, victims)

    def _process(self, nomination: _Nomination, cycle: _Cycle) -> None:
        claim, soon = nomination.claim, cycle.soon
        stopped = {victim.holder.claim.job for victim in nomination.victims}
        overtaken = self._queues[claim.project][0][-1] is not claim
        if overtaken or stopped & cycle.stopped:
            return
        for victim in nomination.victims:
            soon.add(victim.holder.claim.project, -victim.holder.claim.gpus)
        if claim.gpus > soon.available(claim.project):
            for victim in nomination.victims:
                soon.add(victim.holder.claim.project, victim.holder.claim.gpus)
            return
        soon.add(claim.project, claim.gpus)
        if nomination.mode is _Mode.FIT:
            # Kueue counts what others are still giving back as free here; two jobs would hold it for a while.
            if claim.gpus <= self.now.available(claim.project):
                self._admit(claim)
                cycle.changed = True
            return
        nomination.reserved = True
        cycle.stopped |= stopped
        for victim in nomination.victims:
            self._stop(victim, claim)
            cycle.changed = True

    def _admit(self, claim: Claim) -> None:
        heapq.heappop(self._queues[claim.project])
        self.now.add(claim.project, claim.gpus)
        self.admitted.append(claim.job)
        self._fresh[claim.job] = holder = Holder(claim, self._next_rank)
        self._next_rank += 1
        insort(self._holders, holder, key=_candidate_order)
        self._spare_victims_of(claim.job)

    def _spare_victims_of(self, job: str) -> None:
        """Take back this run's preemptions for a job that got in without them; nobody has been told yet."""
        for preemption in [each for each in self.preemptions if each.by == job]:
            self.preemptions.remove(preemption)
            insort(self._holders, self._stopped.pop(preemption.job), key=_candidate_order)
            del self._leaving[preemption.job]

    def _stop(self, victim: Victim, by: Claim) -> None:
        claim = victim.holder.claim
        self._holders.remove(victim.holder)
        if self._fresh.pop(claim.job, None) is not None:
            # Admitted in this very run and not started: it goes back to its place as if nothing had been.
            self.admitted.remove(claim.job)
            self.now.add(claim.project, -claim.gpus)
            self._enqueue(claim)
            return
        self._leaving[claim.job] = claim
        self._stopped[claim.job] = victim.holder
        self.preemptions.append(Preemption(job=claim.job, by=by.job, reason=victim.reason))

    def verdicts(self) -> dict[str, Verdict]:
        """Return why each pending job waits; call after ``settle``."""
        found = dict(self._refused)
        for project, queue in self._queues.items():
            if queue:
                found.update(self._explain(project, [entry[-1] for entry in sorted(queue)]))
        return found

    def _explain(self, project: str, queue: list[Claim]) -> dict[str, Verdict]:
        ceiling, head = self.now.ceiling(project), queue[0]
        free = max(0, min(self.now.available(project), self._soon.available(project)))
        found: dict[str, Verdict] = {}
        for position, claim in enumerate(queue, start=1):
            if claim.gpus > ceiling:
                found[claim.job] = Verdict(
                    Code.EXCEEDS_MAX_QUOTA,
                    self.pool.name,
                    claim.gpus,
                    self.pool.unit,
                    position=position,
                    limit=ceiling,
                    changes=self._ways_in(claim, Code.EXCEEDS_MAX_QUOTA),
                )
            elif position == 1:
                found[claim.job] = self._explain_head(claim, free)
            else:
                blocked = claim.gpus <= free or head.gpus > ceiling
                found[claim.job] = Verdict(
                    Code.BEHIND_HEAD_OF_QUEUE if blocked else Code.WAITING_FOR_QUOTA,
                    self.pool.name,
                    claim.gpus,
                    self.pool.unit,
                    free=free,
                    position=position,
                    ahead=head.job,
                    ahead_never=head.gpus > ceiling,
                )
        return found

    def _explain_head(self, claim: Claim, free: int) -> Verdict:
        project, now = claim.project, self.now
        most = self._terms[project].borrowing_limit
        code, limit = Code.WAITING_FOR_QUOTA, None
        leaving: tuple[str, ...] = ()
        if self._nominations[project].reserved:
            code, leaving = Code.WAITING_FOR_PREEMPTED, self._awaited(project)
        elif now.available(project) < claim.gpus <= now.available(project, limited=False):
            code, limit = Code.BORROWING_LIMIT_REACHED, most
        return Verdict(
            code, self.pool.name, claim.gpus, self.pool.unit, free=free, position=1, limit=limit, leaving=leaving
        )

    def _awaited(self, project: str) -> tuple[str, ...]:
        """Return the leaving jobs whose GPUs the project's head may count on."""
        cohort = self._terms[project].cohort
        near = [
            claim.job
            for claim in self._leaving.values()
            if claim.project == project or (cohort is not None and self._terms[claim.project].cohort == cohort)
        ]
        return tuple(near or self._leaving)
