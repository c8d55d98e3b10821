"""Choice of the jobs to preempt: Kueue's classical preemption for one level of cohort."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

from windlass.domain.quota.model import ResourceDemand
from windlass.domain.quota.pool_usage import PoolUsage


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An admitted job that may be preempted. ``rank`` increases with the time of admission."""

    demand: ResourceDemand
    rank: int

    @property
    def order(self) -> tuple[int, int, str]:
        """Sort key: lower priority first, then admitted more recently."""
        return self.demand.priority, -self.rank, self.demand.rank


class Victim(NamedTuple):
    """A job to preempt, and the reason that allows it."""

    candidate: Candidate
    reason: Literal["reclaim", "priority"]


def choose_victims(demand: ResourceDemand, usage: PoolUsage, candidates: Sequence[Candidate]) -> tuple[Victim, ...]:
    """Return a minimal set of candidates whose preemption makes ``demand`` fit; empty when there is none.

    ``candidates`` are sorted by ``order`` and counted in ``usage``, which is unchanged on return. They are removed in
    order until the demand fits, then restored in reverse order where it still fits. Candidates of other projects come
    first, only while their project borrows, and only if the requesting project ends within its nominal quota.
    """
    project, nominal = demand.project, usage.limits(demand.project).nominal
    if demand.gpus > nominal:
        return ()
    own = [
        Victim(each, "priority")
        for each in candidates
        if each.demand.project == project and each.demand.priority < demand.priority
    ]
    own_gpus = sum(each.candidate.demand.gpus for each in own)
    if usage.used[project] < nominal and usage.used[project] - own_gpus + demand.gpus <= nominal:
        reclaimable = _reclaimable(demand, usage, candidates)
        first = next(reclaimable, None)
        if first is not None:
            return _remove_until_fit(demand, usage, chain((first,), reclaimable, own), borrow=False)
    if usage.available(project) + own_gpus >= demand.gpus:
        return _remove_until_fit(demand, usage, own, borrow=True)
    return ()


def _reclaimable(demand: ResourceDemand, usage: PoolUsage, candidates: Sequence[Candidate]) -> Iterator[Victim]:
    """Yield candidates of borrowing projects. ``usage`` changes between steps, so each step reads it again."""
    cohort = usage.limits(demand.project).cohort
    if cohort is None:
        return
    for each in candidates:
        other = usage.limits(each.demand.project)
        if other.project == demand.project or other.cohort != cohort or other.stopped:
            continue
        if usage.borrowing(other.project):
            yield Victim(each, "reclaim")


def _remove_until_fit(
    demand: ResourceDemand, usage: PoolUsage, candidates: Iterable[Victim], *, borrow: bool
) -> tuple[Victim, ...]:
    removed: list[Victim] = []
    victims: tuple[Victim, ...] = ()
    for victim in candidates:
        usage.add(victim.candidate.demand.project, -victim.candidate.demand.gpus)
        removed.append(victim)
        if _fits(demand, usage, borrow=borrow):
            victims = _restore(demand, usage, removed, borrow=borrow)
            break
    for victim in victims or removed:
        usage.add(victim.candidate.demand.project, victim.candidate.demand.gpus)
    return victims


def _restore(
    demand: ResourceDemand, usage: PoolUsage, removed: Sequence[Victim], *, borrow: bool
) -> tuple[Victim, ...]:
    needed = [removed[-1]]
    for victim in reversed(removed[:-1]):
        usage.add(victim.candidate.demand.project, victim.candidate.demand.gpus)
        if not _fits(demand, usage, borrow=borrow):
            usage.add(victim.candidate.demand.project, -victim.candidate.demand.gpus)
            needed.append(victim)
    return tuple(reversed(needed))


def _fits(demand: ResourceDemand, usage: PoolUsage, *, borrow: bool) -> bool:
    if not borrow and usage.borrowing(demand.project, demand.gpus):
        return False
    return demand.gpus <= usage.available(demand.project)
