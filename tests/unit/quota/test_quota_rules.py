"""One example for each rule of the scheduler."""

import pytest
from pydantic import ValidationError
from tests.unit.quota.scenarios import POOL, Scenario, at, quota

from windlass.domain.quota import (
    Decisions,
    PoolState,
    Preemption,
    QuotaCode,
    ResourceDemand,
    Snapshot,
    ledger,
    schedule,
)
from windlass.domain.quota.pool_usage import PoolUsage, QuotaLimits
from windlass.domain.quota.preemption import Candidate, choose_victims


def waits(decisions: Decisions, job: str) -> QuotaCode:
    return decisions.waiting[job].code


def stopped(decisions: Decisions) -> dict[str, str]:
    return {each.job: each.reason for each in decisions.preempt}


def test_a_project_borrows_idle_quota_of_its_cohort() -> None:
    scenario = Scenario([quota("a", 4), quota("b", 4)])
    scenario.submit("j1", "a", 8)
    assert scenario.step().admit == ("j1",)


def test_without_a_cohort_nothing_is_borrowed_or_reclaimed() -> None:
    scenario = Scenario([quota("a", 4), quota("b", 4)], cohorts={"a": None, "b": "x"})
    scenario.submit("j1", "a", 5)
    assert waits(scenario.step(), "j1") is QuotaCode.EXCEEDS_MAX_QUOTA
    reduced = Scenario([quota("a", 2), quota("b", 2)], capacity=4, cohorts={"a": None, "b": None})
    reduced.run("j2", "a", 4)
    reduced.submit("j3", "b", 2)
    assert reduced.step().preempt == ()


def test_a_borrowing_limit_bounds_the_sum_of_a_projects_jobs() -> None:
    scenario = Scenario([quota("a", 4, borrow=2), quota("b", 8)])
    scenario.submit("j1", "a", 4)
    scenario.submit("j2", "a", 2)
    scenario.submit("j3", "a", 1)
    decisions = scenario.step()
    assert decisions.admit == ("j1", "j2")
    assert waits(decisions, "j3") is QuotaCode.BORROWING_LIMIT_REACHED


def test_quota_above_the_lending_limit_is_not_borrowed() -> None:
    scenario = Scenario([quota("a", 4), quota("b", 4, lend=1)])
    scenario.submit("j1", "a", 4)
    scenario.submit("j2", "a", 1)
    scenario.submit("j3", "a", 1)
    scenario.submit("j4", "b", 3)
    decisions = scenario.step()
    assert decisions.admit == ("j1", "j4", "j2")
    assert waits(decisions, "j3") is QuotaCode.WAITING_FOR_QUOTA


def test_a_project_reclaims_its_quota_from_a_borrower_of_any_priority() -> None:
    scenario = Scenario([quota("a", 1), quota("b", 1)])
    scenario.run("j1", "a", 1, priority=9)
    scenario.run("j2", "a", 1, priority=9)
    scenario.submit("mine", "b", 1, priority=-5)
    decisions = scenario.step()
    assert decisions.preempt == (Preemption(job="j2", by="mine", reason="reclaim"),)
    assert decisions.waiting["mine"].terminating == ("j2",)
    scenario.stop({"j2"})
    assert scenario.step().admit == ("mine",)


def test_a_terminating_job_uses_its_gpus_until_it_has_stopped() -> None:
    scenario = Scenario([quota("a", 1), quota("b", 1)])
    scenario.run("j1", "a")
    scenario.run("j2", "a")
    scenario.submit("mine", "b")
    scenario.step()
    second = scenario.step()
    assert (second.admit, second.preempt) == ((), ())
    assert waits(second, "mine") is QuotaCode.WAITING_FOR_PREEMPTED


def test_a_preempted_job_keeps_its_position_in_the_queue() -> None:
    scenario = Scenario([quota("a", 1), quota("b", 1)])
    scenario.run("early", "a")
    scenario.run("early2", "a")
    scenario.submit("late", "a")
    scenario.submit("mine", "b")
    scenario.step()
    scenario.stop({"early2"})
    assert scenario.step().admit == ("mine",)
    assert [schedule(scenario.snapshot).waiting[job].position for job in ("early2", "late")] == [1, 2]
    scenario.finish("mine")
    assert scenario.step().admit == ("early2",)


def test_a_job_within_nominal_is_never_reclaimed() -> None:
    scenario = Scenario([quota("a", 4), quota("b", 4)], capacity=4)
    scenario.run("j1", "a", 4)
    scenario.submit("j2", "b", 4, priority=9)
    decisions = scenario.step()
    assert decisions.preempt == ()
    assert waits(decisions, "j2") is QuotaCode.WAITING_FOR_QUOTA


def test_reclaim_stops_when_the_borrower_is_within_nominal() -> None:
    scenario = Scenario([quota("a", 2), quota("b", 6), quota("c", 2)])
    scenario.run("a1", "a", 1)
    scenario.run("a2", "a", 3)  # a is now 2 over
    scenario.run("c1", "c", 2)
    scenario.run("c2", "c", 4)  # c is 4 over
    scenario.submit("mine", "b", 6)
    assert stopped(scenario.step()) == {"a2": "reclaim", "c2": "reclaim"}


def test_victims_are_lower_priority_first_then_the_latest_admitted() -> None:
    scenario = Scenario([quota("a", 1), quota("b", 2)])
    scenario.run("old", "a", 1, priority=1)
    scenario.run("new", "a", 1, priority=1)
    scenario.run("low", "a", 1, priority=0)
    scenario.submit("mine", "b", 1)
    assert stopped(scenario.step()) == {"low": "reclaim"}
    scenario.submit("mine2", "b", 1)
    scenario.stop({"low"})
    scenario.step()
    assert scenario.terminating == {"new"}


def test_a_victim_that_is_not_needed_is_not_preempted() -> None:
    scenario = Scenario([quota("a", 0), quota("b", 4)])
    scenario.run("big", "a", 3)
    scenario.run("small", "a", 1)  # admitted later, so it is taken first; with big taken too, it is not needed
    scenario.submit("mine", "b", 3)
    assert stopped(scenario.step()) == {"big": "reclaim"}


def test_a_higher_priority_preempts_within_its_own_project_only() -> None:
    scenario = Scenario([quota("a", 2), quota("b", 2)])
    scenario.run("mine", "a", 2, priority=1)
    scenario.run("theirs", "b", 2, priority=0)
    scenario.submit("urgent", "a", 2, priority=5)
    assert stopped(scenario.step()) == {"mine": "priority"}


def test_equal_priority_never_preempts() -> None:
    scenario = Scenario([quota("a", 2)])
    scenario.run("running", "a", 2, priority=1)
    scenario.submit("next", "a", 2, priority=1)
    assert scenario.step().preempt == ()


def test_a_job_larger_than_nominal_preempts_nobody() -> None:
    scenario = Scenario([quota("a", 2), quota("b", 2)])
    scenario.run("low", "a", 3, priority=0)
    scenario.submit("high", "a", 3, priority=9)
    decisions = scenario.step()
    assert decisions.preempt == ()
    assert waits(decisions, "high") is QuotaCode.WAITING_FOR_QUOTA


def test_a_borrowing_project_preempts_only_its_own_jobs_of_lower_priority() -> None:
    scenario = Scenario([quota("a", 2), quota("b", 2), quota("c", 2)])
    scenario.run("a1", "a", 2, priority=3)
    scenario.run("a2", "a", 1, priority=0)
    scenario.run("c1", "c", 3, priority=0)
    scenario.submit("more", "a", 1, priority=5)
    assert stopped(scenario.step()) == {"a2": "priority"}


def test_a_project_that_uses_its_nominal_quota_reclaims_nothing() -> None:
    scenario = Scenario([quota("a", 2), quota("b", 2), quota("c", 0)], capacity=3)
    scenario.run("a1", "a", 1, priority=0)
    scenario.run("a2", "a", 1, priority=0)
    scenario.run("c1", "c", 2, priority=0)
    scenario.submit("more", "a", 1, priority=5)
    assert stopped(scenario.step()) == {"a1": "priority", "a2": "priority"}


def test_the_head_of_a_queue_blocks_the_jobs_behind_it() -> None:
    scenario = Scenario([quota("a", 4)])
    scenario.run("running", "a", 2)
    scenario.submit("big", "a", 4)
    scenario.submit("small", "a", 1)
    decisions = scenario.step()
    assert decisions.admit == ()
    assert waits(decisions, "small") is QuotaCode.BEHIND_HEAD_OF_QUEUE


def test_a_head_that_can_never_start_blocks_its_queue() -> None:
    scenario = Scenario([quota("a", 4)])
    scenario.submit("huge", "a", 5)
    scenario.submit("small", "a", 1)
    decisions = scenario.step()
    assert waits(decisions, "huge") is QuotaCode.EXCEEDS_MAX_QUOTA
    assert decisions.waiting["small"].head_never_starts


def test_a_job_that_the_pool_rejects_blocks_no_other_job() -> None:
    pool = PoolState(name=POOL, capacity=4, max_gpus_per_job=2)
    scenario = Scenario([quota("a", 8)], pools=(pool,))
    scenario.submit("too-big", "a", 5)
    scenario.submit("over-limit", "a", 3)
    scenario.submit("small", "a", 1)
    scenario.submit("stranger", "z", 1)
    scenario.submit("elsewhere", "a", 1, pool="h100")
    decisions = scenario.step()
    assert decisions.admit == ("small",)
    assert {job: decision.code for job, decision in decisions.waiting.items()} == {
        "too-big": QuotaCode.EXCEEDS_POOL_CAPACITY,
        "over-limit": QuotaCode.EXCEEDS_JOB_LIMIT,
        "stranger": QuotaCode.NO_QUOTA_IN_POOL,
        "elsewhere": QuotaCode.UNKNOWN_POOL,
    }


def test_priority_then_time_orders_a_queue() -> None:
    scenario = Scenario([quota("a", 1)])
    for job, priority in (("first", 0), ("second", 0), ("urgent", 1)):
        scenario.submit(job, "a", 1, priority)
    order = []
    for _ in range(3):
        (job,) = scenario.step().admit
        order.append(job)
        scenario.finish(job)
    assert order == ["urgent", "first", "second"]


def test_heads_within_nominal_precede_borrowers_then_priority_decides() -> None:
    scenario = Scenario([quota("a", 0), quota("b", 2), quota("c", 2)])
    scenario.submit("borrower", "a", 2, priority=9)
    scenario.submit("owner", "b", 2, priority=0)
    scenario.submit("owner-too", "c", 1, priority=1)
    decisions = scenario.step()
    assert decisions.admit == ("owner-too", "owner")
    assert waits(decisions, "borrower") is QuotaCode.WAITING_FOR_QUOTA


def test_two_projects_do_not_preempt_the_same_victim() -> None:
    scenario = Scenario([quota("a", 0), quota("b", 2), quota("c", 2)])
    scenario.run("big", "a", 4)
    scenario.submit("first", "b", 2)
    scenario.submit("second", "c", 2)
    decisions = scenario.step()
    assert decisions.preempt == (Preemption(job="big", by="first", reason="reclaim"),)
    assert {waits(decisions, job) for job in ("first", "second")} == {QuotaCode.WAITING_FOR_PREEMPTED}
    scenario.stop({"big"})
    assert scenario.step().admit == ("first", "second")


def test_a_job_being_cancelled_is_used_before_other_victims() -> None:
    scenario = Scenario([quota("a", 4)])
    scenario.run("cancelled", "a", 2, priority=9)
    scenario.run("low", "a", 2, priority=0)
    scenario._change("cancelled", terminating=True)
    scenario.submit("next", "a", 2, priority=5)
    decisions = scenario.step()
    assert decisions.preempt == ()
    assert decisions.waiting["next"].terminating == ("cancelled",)


def test_jobs_of_a_deleted_quota_can_be_reclaimed() -> None:
    scenario = Scenario([quota("b", 2)], cohorts={"a": "all", "b": "all"})
    scenario.run("orphan", "a", 2)
    scenario.submit("mine", "b", 2)
    assert stopped(scenario.step()) == {"orphan": "reclaim"}


def test_an_overcommitted_pool_never_exceeds_its_capacity() -> None:
    scenario = Scenario([quota("a", 4), quota("b", 4)], capacity=6)
    scenario.submit("j1", "a", 4)
    scenario.submit("j2", "b", 4)
    decisions = scenario.step()
    assert decisions.admit == ("j1",)
    assert decisions.waiting["j2"].free == 2


def test_heads_do_not_preempt_each_other_repeatedly_while_a_job_terminates() -> None:
    """After p1 has preempted its own job it no longer borrows; the order must reflect that while the job terminates."""
    quotas = [quota("p1", 6, borrow=4, lend=1), quota("p2", 5, lend=1)]
    scenario = Scenario(quotas, cohorts={"p1": "c", "p2": "c"})
    scenario.run("small", "p1", 1, priority=1)
    scenario.submit("p1-head", "p1", 6, priority=2)
    scenario.submit("p2-head", "p2", 6, priority=3)
    decisions = scenario.run_until_stable()
    assert decisions[0].admit == ("p1-head",)
    assert decisions[0].preempt == ()
    assert scenario.running == {"small", "p1-head"}


def test_pools_are_independent() -> None:
    pools = (PoolState(name="a100", capacity=2), PoolState(name="h100", capacity=2))
    scenario = Scenario([quota("a", 2), quota("a", 2, pool="h100")], pools=pools)
    scenario.submit("j1", "a", 2)
    scenario.submit("j2", "a", 1)
    scenario.submit("j3", "a", 2, pool="h100")
    decisions = scenario.step()
    assert decisions.admit == ("j1", "j3")
    assert decisions.waiting["j2"].position == 1


@pytest.mark.parametrize("kind", ["pool", "quota", "job"])
def test_a_snapshot_rejects_duplicates(kind: str) -> None:
    pool, mine = PoolState(name=POOL, capacity=1), quota("a", 1)
    demand = ResourceDemand(job="j", project="a", pool=POOL, gpus=1, queued_at=at(0))
    counts = {"pool": (2, 1, 1), "quota": (1, 2, 1), "job": (1, 1, 2)}[kind]
    with pytest.raises(ValidationError, match=f"duplicate {kind} in"):
        Snapshot(pools=(pool,) * counts[0], quotas=(mine,) * counts[1], demands=(demand,) * counts[2])


def test_only_an_admitted_demand_can_be_terminating() -> None:
    with pytest.raises(ValidationError, match="only an admitted demand"):
        ResourceDemand(job="j", project="a", pool=POOL, gpus=1, queued_at=at(0), terminating=True)


def test_gpus_of_a_victim_are_not_reused_in_the_same_step() -> None:
    scenario = Scenario([quota("a", 3), quota("b", 0), quota("c", 2), quota("d", 1)])
    scenario.run("victim", "b", 4)
    scenario.submit("owner", "a", 3)
    scenario.submit("fits", "c", 2)
    scenario.submit("fits-later", "d", 1)
    decisions = scenario.step()
    assert decisions.admit == ("fits",)
    assert stopped(decisions) == {"victim": "reclaim"}
    scenario.stop({"victim"})
    assert set(scenario.step().admit) == {"owner", "fits-later"}


def test_an_admission_revoked_in_the_same_step_keeps_its_position() -> None:
    """``big`` is admitted and reclaimed for ``second`` in one step; ``small`` behind it must not start."""
    scenario = Scenario([quota("a", 9), quota("b", 0)])
    scenario.submit("first", "a", 2)
    scenario.submit("second", "a", 4)
    scenario.submit("big", "b", 4)
    scenario.submit("small", "b", 1)
    decisions = scenario.step()
    assert decisions.admit == ("first", "second")
    assert decisions.preempt == ()
    assert [decisions.waiting[job].position for job in ("big", "small")] == [1, 2]


def test_victims_are_restored_in_reverse_order_and_usage_is_unchanged() -> None:
    pool_usage = PoolUsage(None, [QuotaLimits("a", 6, "all"), QuotaLimits("b", 0, "all")])
    demands = [
        ResourceDemand(job=f"v{gpus}", project="b", pool=POOL, gpus=gpus, queued_at=at(0), admitted_at=at(1))
        for gpus in (1, 2, 3)
    ]
    for demand in demands:
        pool_usage.add("b", demand.gpus)
    candidates = [Candidate(demand, rank) for demand, rank in zip(demands, (3, 2, 1), strict=True)]
    wanted = ResourceDemand(job="j", project="a", pool=POOL, gpus=4, queued_at=at(2))
    victims = choose_victims(wanted, pool_usage, candidates)
    assert [victim.candidate.demand.job for victim in victims] == ["v1", "v3"]
    assert (pool_usage.used, pool_usage.available("a")) == ({"a": 0, "b": 6}, 0)
    assert choose_victims(wanted.model_copy(update={"gpus": 100}), pool_usage, candidates) == ()
    assert choose_victims(wanted, pool_usage, ()) == ()


def test_gpus_are_reserved_for_a_job_that_waits_for_its_victims() -> None:
    scenario = Scenario([quota("a", 3), quota("b", 0), quota("c", 0)])
    scenario.run("victim", "b", 2)
    scenario.submit("owner", "a", 3)
    scenario.submit("borrower", "c", 1, priority=9)
    decisions = scenario.step()
    assert decisions.admit == ()
    assert waits(decisions, "borrower") is QuotaCode.WAITING_FOR_QUOTA
    assert decisions.waiting["borrower"].free == 0


def test_withheld_quota_counts_towards_the_borrowing_limit_of_its_project() -> None:
    scenario = Scenario([quota("a", 4, borrow=1, lend=1), quota("b", 8)])
    scenario.submit("j1", "a", 2)
    scenario.submit("j2", "a", 4)
    assert waits(scenario.step(), "j2") is QuotaCode.BORROWING_LIMIT_REACHED


def test_a_job_may_use_withheld_and_shared_quota_together() -> None:
    scenario = Scenario([quota("a", 4, lend=1), quota("b", 2)])
    scenario.run("r", "a", 1)
    scenario.submit("j", "a", 6)
    assert waits(scenario.step(), "j") is QuotaCode.WAITING_FOR_QUOTA


def test_free_is_at_most_what_the_usable_nodes_have_left() -> None:
    """Usage above a project's quota takes GPUs that the quotas of others promise."""
    pool = PoolState(name=POOL, capacity=None, allocatable=32)
    scenario = Scenario([quota("a", 4), quota("b", 16)], cohorts={}, pools=(pool,))
    scenario.demands["held"] = scenario.submit("held", "a", 22).model_copy(update={"admitted_at": scenario.tick()})
    rows = {row.project: row for row in ledger(scenario.snapshot)}
    assert (rows["a"].free, rows["b"].free) == (0, 10)
    scenario.submit("next", "b", 16)
    assert schedule(scenario.snapshot).admit == ("next",), "Kueue admits by quota, and the prediction says so"
    assert rows["b"].reclaimable == 0
