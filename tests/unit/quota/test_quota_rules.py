"""One example for each rule of the scheduler."""

import pytest
from pydantic import ValidationError
from tests.unit.quota.worlds import POOL, World, at, quota

from windlass.domain.quota import Claim, Code, Decisions, PoolState, Preemption, Snapshot, schedule
from windlass.domain.quota.book import Book, Terms
from windlass.domain.quota.preemption import Holder, choose_victims


def waits(decisions: Decisions, job: str) -> Code:
    return decisions.waiting[job].code


def stopped(decisions: Decisions) -> dict[str, str]:
    return {each.job: each.reason for each in decisions.preempt}


def test_a_project_borrows_what_others_of_its_cohort_leave_idle() -> None:
    world = World([quota("a", 4), quota("b", 4)])
    world.submit("j1", "a", 8)
    assert world.step().admit == ("j1",)


def test_without_a_cohort_nothing_is_borrowed() -> None:
    world = World([quota("a", 4), quota("b", 4)], cohorts={"a": None, "b": "x"})
    world.submit("j1", "a", 5)
    assert waits(world.step(), "j1") is Code.EXCEEDS_MAX_QUOTA


def test_a_borrowing_limit_bounds_the_sum_of_a_projects_jobs() -> None:
    world = World([quota("a", 4, borrow=2), quota("b", 8)])
    world.submit("j1", "a", 4)
    world.submit("j2", "a", 2)
    world.submit("j3", "a", 1)
    decisions = world.step()
    assert decisions.admit == ("j1", "j2")
    assert waits(decisions, "j3") is Code.BORROWING_LIMIT_REACHED


def test_what_a_lending_limit_withholds_is_never_borrowed() -> None:
    world = World([quota("a", 4), quota("b", 4, lend=1)])
    world.submit("j1", "a", 4)
    world.submit("j2", "a", 1)
    world.submit("j3", "a", 1)
    world.submit("j4", "b", 3)
    decisions = world.step()
    assert decisions.admit == ("j1", "j4", "j2")
    assert waits(decisions, "j3") is Code.WAITING_FOR_QUOTA


def test_an_owner_reclaims_its_quota_from_a_borrower_of_any_priority() -> None:
    world = World([quota("a", 1), quota("b", 1)])
    world.run("j1", "a", 1, priority=9)
    world.run("j2", "a", 1, priority=9)
    world.submit("mine", "b", 1, priority=-5)
    decisions = world.step()
    assert decisions.preempt == (Preemption(job="j2", by="mine", reason="reclaim"),)
    assert decisions.waiting["mine"].leaving == ("j2",)
    world.stop({"j2"})
    assert world.step().admit == ("mine",)


def test_gpus_of_a_job_told_to_stop_are_taken_until_it_is_gone() -> None:
    world = World([quota("a", 1), quota("b", 1)])
    world.run("j1", "a")
    world.run("j2", "a")
    world.submit("mine", "b")
    world.step()
    again = world.step()
    assert (again.admit, again.preempt) == ((), ())
    assert waits(again, "mine") is Code.WAITING_FOR_PREEMPTED


def test_a_preempted_job_comes_back_to_its_old_place() -> None:
    world = World([quota("a", 1), quota("b", 1)])
    world.run("early", "a")
    world.run("early2", "a")
    world.submit("late", "a")
    world.submit("mine", "b")
    world.step()
    world.stop({"early2"})
    assert world.step().admit == ("mine",)
    assert [schedule(world.snapshot).waiting[job].position for job in ("early2", "late")] == [1, 2]
    world.finish("mine")
    assert world.step().admit == ("early2",)


def test_a_job_within_nominal_is_never_reclaimed() -> None:
    world = World([quota("a", 4), quota("b", 4)], capacity=4)
    world.run("j1", "a", 4)
    world.submit("j2", "b", 4, priority=9)
    decisions = world.step()
    assert decisions.preempt == ()
    assert waits(decisions, "j2") is Code.WAITING_FOR_QUOTA


def test_reclaim_leaves_a_borrower_alone_once_it_is_back_within_nominal() -> None:
    world = World([quota("a", 2), quota("b", 6), quota("c", 2)])
    world.run("a1", "a", 1)
    world.run("a2", "a", 3)  # a is now 2 over
    world.run("c1", "c", 2)
    world.run("c2", "c", 4)  # c is 4 over
    world.submit("mine", "b", 6)
    assert stopped(world.step()) == {"a2": "reclaim", "c2": "reclaim"}


def test_victims_are_lower_priority_first_then_the_latest_admitted() -> None:
    world = World([quota("a", 1), quota("b", 2)])
    world.run("old", "a", 1, priority=1)
    world.run("new", "a", 1, priority=1)
    world.run("low", "a", 1, priority=0)
    world.submit("mine", "b", 1)
    assert stopped(world.step()) == {"low": "reclaim"}
    world.submit("mine2", "b", 1)
    world.stop({"low"})
    world.step()
    assert world.leaving == {"new"}


def test_a_victim_that_is_not_needed_after_all_is_spared() -> None:
    world = World([quota("a", 0), quota("b", 4)])
    world.run("big", "a", 3)
    world.run("small", "a", 1)  # admitted later, so it is taken first; with big taken too, it is not needed
    world.submit("mine", "b", 3)
    assert stopped(world.step()) == {"big": "reclaim"}


def test_a_higher_priority_preempts_within_its_own_project_only() -> None:
    world = World([quota("a", 2), quota("b", 2)])
    world.run("mine", "a", 2, priority=1)
    world.run("theirs", "b", 2, priority=0)
    world.submit("urgent", "a", 2, priority=5)
    assert stopped(world.step()) == {"mine": "priority"}


def test_equal_priority_never_preempts() -> None:
    world = World([quota("a", 2)])
    world.run("running", "a", 2, priority=1)
    world.submit("next", "a", 2, priority=1)
    assert world.step().preempt == ()


def test_a_job_larger_than_nominal_preempts_nobody() -> None:
    world = World([quota("a", 2), quota("b", 2)])
    world.run("low", "a", 3, priority=0)
    world.submit("high", "a", 3, priority=9)
    decisions = world.step()
    assert decisions.preempt == ()
    assert waits(decisions, "high") is Code.WAITING_FOR_QUOTA


def test_whoever_would_still_borrow_reclaims_nothing_but_may_take_its_own_lower_jobs() -> None:
    world = World([quota("a", 2), quota("b", 2), quota("c", 2)])
    world.run("a1", "a", 2, priority=3)
    world.run("a2", "a", 1, priority=0)
    world.run("c1", "c", 3, priority=0)
    world.submit("more", "a", 1, priority=5)
    assert stopped(world.step()) == {"a2": "priority"}


def test_the_head_of_a_queue_holds_up_what_is_behind_it() -> None:
    world = World([quota("a", 4)])
    world.run("running", "a", 2)
    world.submit("big", "a", 4)
    world.submit("small", "a", 1)
    decisions = world.step()
    assert decisions.admit == ()
    assert waits(decisions, "small") is Code.BEHIND_HEAD_OF_QUEUE


def test_a_head_that_can_never_start_holds_up_its_queue_too() -> None:
    world = World([quota("a", 4)])
    world.submit("huge", "a", 5)
    world.submit("small", "a", 1)
    decisions = world.step()
    assert waits(decisions, "huge") is Code.EXCEEDS_MAX_QUOTA
    assert decisions.waiting["small"].ahead_never


def test_what_the_pool_itself_refuses_holds_nobody_up() -> None:
    pool = PoolState(name=POOL, capacity=4, max_gpus_per_job=2)
    world = World([quota("a", 8)], pools=(pool,))
    world.submit("too-big", "a", 5)
    world.submit("over-limit", "a", 3)
    world.submit("small", "a", 1)
    world.submit("stranger", "z", 1)
    world.submit("elsewhere", "a", 1, pool="h100")
    decisions = world.step()
    assert decisions.admit == ("small",)
    assert {job: verdict.code for job, verdict in decisions.waiting.items()} == {
        "too-big": Code.EXCEEDS_POOL_CAPACITY,
        "over-limit": Code.EXCEEDS_JOB_LIMIT,
        "stranger": Code.NO_QUOTA_IN_POOL,
        "elsewhere": Code.UNKNOWN_POOL,
    }


def test_priority_then_time_orders_a_queue() -> None:
    world = World([quota("a", 1)])
    for job, priority in (("first", 0), ("second", 0), ("urgent", 1)):
        world.submit(job, "a", 1, priority)
    order = []
    for _ in range(3):
        (job,) = world.step().admit
        order.append(job)
        world.finish(job)
    assert order == ["urgent", "first", "second"]


def test_projects_within_nominal_go_before_borrowers_and_then_priority_counts() -> None:
    world = World([quota("a", 0), quota("b", 2), quota("c", 2)])
    world.submit("borrower", "a", 2, priority=9)
    world.submit("owner", "b", 2, priority=0)
    world.submit("owner-too", "c", 1, priority=1)
    decisions = world.step()
    assert decisions.admit == ("owner-too", "owner")
    assert waits(decisions, "borrower") is Code.WAITING_FOR_QUOTA


def test_two_owners_who_want_the_same_victim_get_it_once() -> None:
    world = World([quota("a", 0), quota("b", 2), quota("c", 2)])
    world.run("big", "a", 4)
    world.submit("first", "b", 2)
    world.submit("second", "c", 2)
    decisions = world.step()
    assert decisions.preempt == (Preemption(job="big", by="first", reason="reclaim"),)
    assert {waits(decisions, job) for job in ("first", "second")} == {Code.WAITING_FOR_PREEMPTED}
    world.stop({"big"})
    assert world.step().admit == ("first", "second")


def test_a_job_that_its_user_is_stopping_spares_others() -> None:
    world = World([quota("a", 4)])
    world.run("cancelled", "a", 2, priority=9)
    world.run("low", "a", 2, priority=0)
    world._change("cancelled", leaving=True)
    world.submit("next", "a", 2, priority=5)
    decisions = world.step()
    assert decisions.preempt == ()
    assert decisions.waiting["next"].leaving == ("cancelled",)


def test_a_quota_taken_away_leaves_its_jobs_to_be_reclaimed() -> None:
    world = World([quota("b", 2)], cohorts={"a": "all", "b": "all"})
    world.run("orphan", "a", 2)
    world.submit("mine", "b", 2)
    assert stopped(world.step()) == {"orphan": "reclaim"}


def test_an_overcommitted_pool_gives_no_more_than_it_has() -> None:
    world = World([quota("a", 4), quota("b", 4)], capacity=6)
    world.submit("j1", "a", 4)
    world.submit("j2", "b", 4)
    decisions = world.step()
    assert decisions.admit == ("j1",)
    assert decisions.waiting["j2"].free == 2


def test_heads_do_not_take_each_others_place_for_ever_while_a_third_job_leaves() -> None:
    """Once p1 has taken its own job out it no longer borrows; while that job is leaving the order must know it."""
    quotas = [quota("p1", 6, borrow=4, lend=1), quota("p2", 5, lend=1)]
    world = World(quotas, cohorts={"p1": "c", "p2": "c"})
    world.run("small", "p1", 1, priority=1)
    world.submit("p1-head", "p1", 6, priority=2)
    world.submit("p2-head", "p2", 6, priority=3)
    decisions = world.settle()
    assert decisions[0].admit == ("p1-head",)
    assert decisions[0].preempt == ()
    assert world.running == {"small", "p1-head"}


def test_pools_do_not_mix() -> None:
    pools = (PoolState(name="a100", capacity=2), PoolState(name="h100", capacity=2))
    world = World([quota("a", 2), quota("a", 2, pool="h100")], pools=pools)
    world.submit("j1", "a", 2)
    world.submit("j2", "a", 1)
    world.submit("j3", "a", 2, pool="h100")
    decisions = world.step()
    assert decisions.admit == ("j1", "j3")
    assert decisions.waiting["j2"].position == 1


@pytest.mark.parametrize("what", ["pool", "quota", "job"])
def test_a_snapshot_refuses_the_same_thing_twice(what: str) -> None:
    pool, mine = PoolState(name=POOL, capacity=1), quota("a", 1)
    claim = Claim(job="j", project="a", pool=POOL, gpus=1, queued_at=at(0))
    twice = {"pool": (2, 1, 1), "quota": (1, 2, 1), "job": (1, 1, 2)}[what]
    with pytest.raises(ValidationError, match=f"the same {what} stands twice"):
        Snapshot(pools=(pool,) * twice[0], quotas=(mine,) * twice[1], claims=(claim,) * twice[2])


def test_only_an_admitted_claim_can_be_leaving() -> None:
    with pytest.raises(ValidationError, match="only an admitted claim"):
        Claim(job="j", project="a", pool=POOL, gpus=1, queued_at=at(0), leaving=True)


def test_room_that_is_still_held_is_not_given_away_in_the_same_step() -> None:
    world = World([quota("a", 3), quota("b", 0), quota("c", 2), quota("d", 1)])
    world.run("victim", "b", 4)
    world.submit("owner", "a", 3)
    world.submit("fits", "c", 2)
    world.submit("fits-later", "d", 1)
    decisions = world.step()
    assert decisions.admit == ("fits",)
    assert stopped(decisions) == {"victim": "reclaim"}
    world.stop({"victim"})
    assert set(world.step().admit) == {"owner", "fits-later"}


def test_an_admission_taken_back_in_the_same_step_keeps_its_place_in_the_queue() -> None:
    """``big`` is admitted and at once reclaimed for ``second``; ``small`` behind it must not slip through."""
    world = World([quota("a", 9), quota("b", 0)])
    world.submit("first", "a", 2)
    world.submit("second", "a", 4)
    world.submit("big", "b", 4)
    world.submit("small", "b", 1)
    decisions = world.step()
    assert decisions.admit == ("first", "second")
    assert decisions.preempt == ()
    assert [decisions.waiting[job].position for job in ("big", "small")] == [1, 2]


def test_victims_are_put_back_last_taken_first_and_the_book_is_left_as_it_was() -> None:
    book = Book(None, [Terms("a", 6, "all"), Terms("b", 0, "all")])
    claims = [
        Claim(job=f"v{gpus}", project="b", pool=POOL, gpus=gpus, queued_at=at(0), admitted_at=at(1))
        for gpus in (1, 2, 3)
    ]
    for claim in claims:
        book.add("b", claim.gpus)
    holders = [Holder(claim, rank) for claim, rank in zip(claims, (3, 2, 1), strict=True)]
    wanted = Claim(job="j", project="a", pool=POOL, gpus=4, queued_at=at(2))
    victims = choose_victims(wanted, book, holders)
    assert [victim.holder.claim.job for victim in victims] == ["v1", "v3"]
    assert (book.used, book.available("a")) == ({"a": 0, "b": 6}, 0)


def test_room_is_kept_for_a_job_that_waits_for_its_victims() -> None:
    world = World([quota("a", 3), quota("b", 0), quota("c", 0)])
    world.run("victim", "b", 2)
    world.submit("owner", "a", 3)
    world.submit("borrower", "c", 1, priority=9)
    decisions = world.step()
    assert decisions.admit == ()
    assert waits(decisions, "borrower") is Code.WAITING_FOR_QUOTA
    assert decisions.waiting["borrower"].free == 0


def test_withheld_quota_counts_towards_the_borrowing_limit_of_its_owner() -> None:
    world = World([quota("a", 4, borrow=1, lend=1), quota("b", 8)])
    world.submit("j1", "a", 2)
    world.submit("j2", "a", 4)
    assert waits(world.step(), "j2") is Code.BORROWING_LIMIT_REACHED


def test_a_job_may_be_as_large_as_withheld_quota_and_the_pot_together() -> None:
    world = World([quota("a", 4, lend=1), quota("b", 2)])
    world.run("r", "a", 1)
    world.submit("j", "a", 6)
    assert waits(world.step(), "j") is Code.WAITING_FOR_QUOTA
