"""Whether a job would start, and the smallest change that lets it start; computed by running the scheduler."""

from bisect import bisect_left
from collections.abc import Callable

from windlass.domain.quota.model import Quota, ResourceDemand, Simulation, Snapshot
from windlass.domain.quota.queue_decisions import QueueDecision, QuotaCode, Suggestion
from windlass.domain.quota.scheduling import schedule

_SEARCHABLE_CODES = frozenset(
    {QuotaCode.WAITING_FOR_QUOTA, QuotaCode.BORROWING_LIMIT_REACHED, QuotaCode.WAITING_FOR_PREEMPTED}
)


def simulate(snapshot: Snapshot, demand: ResourceDemand) -> Simulation:
    """Return what ``schedule`` does with ``demand`` when it is added to (or replaced in) the snapshot as pending."""
    demand = demand.model_copy(update={"admitted_at": None, "terminating": False})
    restricted = _restrict_to_pool(snapshot, demand)
    decisions = schedule(restricted)
    if demand.job in decisions.admit:
        return Simulation(verdict="starts")
    decision = decisions.waiting[demand.job]
    return Simulation(
        verdict="never" if decision.never else "waits",
        position=decision.position,
        reason=decision.reason,
        would_preempt=tuple(each.job for each in decisions.preempt if each.by == demand.job),
        smallest_change=decision.suggestions or _suggestions_that_start(restricted, demand, decision),
    )


def _restrict_to_pool(snapshot: Snapshot, demand: ResourceDemand) -> Snapshot:
    """Return the snapshot with ``demand`` added and the other pools removed: pools are independent."""
    return snapshot.model_copy(
        update={
            "pools": tuple(each for each in snapshot.pools if each.name == demand.pool),
            "quotas": tuple(each for each in snapshot.quotas if each.pool == demand.pool),
            "demands": (
                *(each for each in snapshot.demands if each.pool == demand.pool and each.job != demand.job),
                demand,
            ),
        }
    )


def _suggestions_that_start(
    snapshot: Snapshot, demand: ResourceDemand, decision: QueueDecision
) -> tuple[Suggestion, ...]:
    """Return the changes, at most one for the user and one for an admin, that let a queue head start."""
    if decision.code not in _SEARCHABLE_CODES or decision.position != 1:
        return ()
    quota = next(each for each in snapshot.quotas if each.project == demand.project)
    # No project needs more quota than for all GPUs in use. This only bounds the search.
    total = demand.gpus + sum(each.gpus for each in snapshot.demands if each.admitted_at is not None)
    suggestions = []

    def with_smaller_job(by: int) -> Snapshot:
        smaller = demand.model_copy(update={"gpus": demand.gpus - by})
        return snapshot.model_copy(update={"demands": (*snapshot.demands[:-1], smaller)})

    if decision.free and (by := _smallest_that_starts(demand, with_smaller_job, demand.gpus - decision.free)):
        suggestions.append(Suggestion(kind="reduce_gpus", by=by, to=demand.gpus - by))
    if decision.code is QuotaCode.BORROWING_LIMIT_REACHED:
        limit = quota.borrowing_limit or 0

        def with_borrowing_limit_raised(by: int) -> Snapshot:
            return _with_quota(snapshot, quota.model_copy(update={"borrowing_limit": limit + by}))

        if by := _smallest_that_starts(demand, with_borrowing_limit_raised, total):
            suggestions.append(Suggestion(kind="raise_borrowing_limit", by=by, to=limit + by))
            return tuple(suggestions)

    def with_nominal_raised(by: int) -> Snapshot:
        return _with_quota(snapshot, quota.model_copy(update={"nominal": quota.nominal + by}))

    if by := _smallest_that_starts(demand, with_nominal_raised, total):
        suggestions.append(Suggestion(kind="raise_nominal", by=by, to=quota.nominal + by))
    return tuple(suggestions)


def _smallest_that_starts(demand: ResourceDemand, changed: Callable[[int], Snapshot], maximum: int) -> int | None:
    """Return the smallest number up to ``maximum`` that starts the job; None when ``maximum`` does not."""

    def starts(by: int) -> bool:
        return demand.job in schedule(changed(by)).admit

    if maximum < 1 or not starts(maximum):
        return None
    return bisect_left(range(1, maximum), True, key=starts) + 1  # noqa: FBT003 - the value that bisect searches for


def _with_quota(snapshot: Snapshot, quota: Quota) -> Snapshot:
    others = tuple(each for each in snapshot.quotas if each.project != quota.project)
    return snapshot.model_copy(update={"quotas": (*others, quota)})
