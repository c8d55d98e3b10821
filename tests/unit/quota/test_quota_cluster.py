"""Rules for snapshots of a cluster: stopped queues, and demands with equal times."""

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.quota.scenarios import Scenario, at, quota, scenarios

from windlass.domain.quota import QuotaCode, ResourceDemand, schedule, simulate


def stop(scenario: Scenario, project: str) -> None:
    scenario.quotas = [
        each.model_copy(update={"stopped": True}) if each.project == project else each for each in scenario.quotas
    ]


def test_a_stopped_queue_starts_no_job_and_running_jobs_continue() -> None:
    scenario = Scenario([quota("a", 4)])
    scenario.run("r", "a", 1)
    stop(scenario, "a")
    demand = scenario.submit("j", "a", 1)
    decisions = schedule(scenario.snapshot)
    assert (decisions.admit, decisions.preempt) == ((), ())
    decision = decisions.waiting["j"]
    assert decision.code is QuotaCode.QUEUE_STOPPED
    assert decision.suggestions == ()
    assert decision.reason.context == {"pool": "a100", "needed": 1}
    simulation = simulate(scenario.snapshot, demand)
    assert (simulation.verdict, simulation.smallest_change) == ("waits", ())


def test_quota_borrowed_by_a_stopped_queue_is_not_reclaimed() -> None:
    scenario = Scenario([quota("a", 2), quota("b", 2)])
    scenario.run("r", "a", 4)
    scenario.submit("mine", "b", 2)
    assert [each.job for each in schedule(scenario.snapshot).preempt] == ["r"]
    stop(scenario, "a")
    assert schedule(scenario.snapshot).preempt == ()


@given(scenarios(), st.data())
def test_no_job_of_a_stopped_project_is_started_or_preempted(scenario: Scenario, data: st.DataObject) -> None:
    project = data.draw(st.sampled_from([each.project for each in scenario.quotas]))
    stop(scenario, project)
    decisions = schedule(scenario.snapshot)
    touched = {*decisions.admit, *(each.job for each in decisions.preempt)}
    assert not {job for job in touched if scenario.demands[job].project == project}
    queued = {job for job in scenario.pending if scenario.demands[job].project == project}
    assert all(decisions.waiting[job].code is QuotaCode.QUEUE_STOPPED for job in queued)


def demand(job: str, tiebreak: str, *, admitted: datetime | None = None, **changes: Any) -> ResourceDemand:
    given = {"project": "a", "pool": "a100", "gpus": 2, "queued_at": at(1), "admitted_at": admitted} | changes
    return ResourceDemand.model_validate({"job": job, "tiebreak": tiebreak, **given})


def test_jobs_queued_at_the_same_time_are_ordered_by_tiebreak() -> None:
    scenario = Scenario([quota("a", 2)])
    scenario.demands = {"x": demand("x", "2"), "y": demand("y", "1")}
    assert schedule(scenario.snapshot).admit == ("y",)
    scenario.demands = {"x": demand("x", ""), "y": demand("y", "")}
    assert schedule(scenario.snapshot).admit == ("x",)


def test_victims_admitted_at_the_same_time_are_ordered_by_tiebreak() -> None:
    scenario = Scenario([quota("a", 0), quota("b", 2)])
    scenario.demands = {"x": demand("x", "2", admitted=at(2)), "y": demand("y", "1", admitted=at(2))}
    scenario.quotas = [quota("a", 0), quota("b", 4)]
    scenario.submit("mine", "b", 2)
    assert [each.job for each in schedule(scenario.snapshot).preempt] == ["y"]
