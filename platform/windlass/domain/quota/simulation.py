"""Would this job start, and if not, what is the least that must change? Answered by running the scheduler."""

from bisect import bisect_left
from collections.abc import Callable

from windlass.domain.quota.model import Claim, Quota, Simulation, Snapshot
from windlass.domain.quota.scheduling import schedule
from windlass.domain.quota.verdicts import Change, Code, Verdict

_TRIED = frozenset({Code.WAITING_FOR_QUOTA, Code.BORROWING_LIMIT_REACHED, Code.WAITING_FOR_PREEMPTED})


def simulate(snapshot: Snapshot, claim: Claim) -> Simulation:
    """Return what ``schedule`` does with ``claim`` when it is added to (or replaced in) the snapshot as pending."""
    claim = claim.model_copy(update={"admitted_at": None, "leaving": False})
    narrowed = _only_pool(snapshot, claim)
    decisions = schedule(narrowed)
    if claim.job in decisions.admit:
        return Simulation(verdict="starts")
    verdict = decisions.waiting[claim.job]
    return Simulation(
        verdict="never" if verdict.never else "waits",
        position=verdict.position,
        reason=verdict.reason,
        would_preempt=tuple(each.job for each in decisions.preempt if each.by == claim.job),
        smallest_change=verdict.changes or _changes_that_start(narrowed, claim, verdict),
    )


def _only_pool(snapshot: Snapshot, claim: Claim) -> Snapshot:
    """Return the snapshot with ``claim`` in it, without the other pools: they have no influence."""
    return snapshot.model_copy(
        update={
            "pools": tuple(each for each in snapshot.pools if each.name == claim.pool),
            "quotas": tuple(each for each in snapshot.quotas if each.pool == claim.pool),
            "claims": (
                *(each for each in snapshot.claims if each.pool == claim.pool and each.job != claim.job),
                claim,
            ),
        }
    )


def _changes_that_start(snapshot: Snapshot, claim: Claim, verdict: Verdict) -> tuple[Change, ...]:
    """Return the changes, at most one for the job's owner and one for an admin, that let the head of a queue start."""
    if verdict.code not in _TRIED or verdict.position != 1:
        return ()
    quota = next(each for each in snapshot.quotas if each.project == claim.project)
    used = sum(c.gpus for c in snapshot.claims if c.project == claim.project and c.admitted_at is not None)
    over_nominal = used + claim.gpus - quota.nominal
    changes = []

    def reduced(by: int) -> Snapshot:
        smaller = claim.model_copy(update={"gpus": claim.gpus - by})
        return snapshot.model_copy(update={"claims": (*snapshot.claims[:-1], smaller)})

    if verdict.free and (by := _least(claim, reduced, claim.gpus - verdict.free)):
        changes.append(Change(kind="reduce_gpus", by=by, to=claim.gpus - by))
    limit = quota.borrowing_limit
    if limit is not None and verdict.code is Code.BORROWING_LIMIT_REACHED:

        def unlimited(by: int) -> Snapshot:
            return _with_quota(snapshot, quota.model_copy(update={"borrowing_limit": limit + by}))

        if by := _least(claim, unlimited, over_nominal - limit):
            changes.append(Change(kind="raise_borrowing_limit", by=by, to=limit + by))
            return tuple(changes)

    def raised(by: int) -> Snapshot:
        return _with_quota(snapshot, quota.model_copy(update={"nominal": quota.nominal + by}))

    # After a cut, or while room is kept for others, more is missing than needed minus free.
    if by := _least(claim, raised, max(claim.gpus - verdict.free, over_nominal)):
        changes.append(Change(kind="raise_nominal", by=by, to=quota.nominal + by))
    return tuple(changes)


def _least(claim: Claim, changed: Callable[[int], Snapshot], most: int) -> int | None:
    """Return a number up to ``most`` that starts the job, where one less does not; None when ``most`` does not."""

    def starts(by: int) -> bool:
        return claim.job in schedule(changed(by)).admit

    if most < 1 or not starts(most):
        return None
    return bisect_left(range(1, most), True, key=starts) + 1  # noqa: FBT003 - what is searched for among the answers


def _with_quota(snapshot: Snapshot, quota: Quota) -> Snapshot:
    others = tuple(each for each in snapshot.quotas if each.project != quota.project)
    return snapshot.model_copy(update={"quotas": (*others, quota)})
