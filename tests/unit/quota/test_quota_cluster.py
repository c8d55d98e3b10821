"""What a cluster's snapshot adds to the rules: queues that are stopped, and many claims of the same second."""

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.quota.worlds import World, at, quota, worlds

from windlass.domain.quota import Claim, Code, schedule, simulate


def stop(world: World, project: str) -> None:
    world.quotas = [
        each.model_copy(update={"stopped": True}) if each.project == project else each for each in world.quotas
    ]


def test_nothing_starts_from_a_stopped_queue_and_what_runs_goes_on() -> None:
    world = World([quota("a", 4)])
    world.run("r", "a", 1)
    stop(world, "a")
    claim = world.submit("j", "a", 1)
    decisions = schedule(world.snapshot)
    assert (decisions.admit, decisions.preempt) == ((), ())
    verdict = decisions.waiting["j"]
    assert verdict.code is Code.QUEUE_STOPPED
    assert verdict.reason.facts == {"pool": "a100", "needed": 1}
    simulation = simulate(world.snapshot, claim)
    assert (simulation.verdict, simulation.smallest_change) == ("waits", ())


def test_what_a_stopped_queue_has_borrowed_cannot_be_reclaimed() -> None:
    world = World([quota("a", 2), quota("b", 2)])
    world.run("r", "a", 4)
    world.submit("mine", "b", 2)
    assert [each.job for each in schedule(world.snapshot).preempt] == ["r"]
    stop(world, "a")
    assert schedule(world.snapshot).preempt == ()


@given(worlds(), st.data())
def test_a_stopped_project_changes_nothing_for_others_but_what_it_holds(world: World, data: st.DataObject) -> None:
    project = data.draw(st.sampled_from([each.project for each in world.quotas]))
    stop(world, project)
    decisions = schedule(world.snapshot)
    touched = {*decisions.admit, *(each.job for each in decisions.preempt)}
    assert not {job for job in touched if world.claims[job].project == project}
    queued = {job for job in world.pending if world.claims[job].project == project}
    assert all(decisions.waiting[job].code is Code.QUEUE_STOPPED for job in queued)


def claim(job: str, tiebreak: str, *, admitted: datetime | None = None, **changes: Any) -> Claim:
    given = {"project": "a", "pool": "a100", "gpus": 2, "queued_at": at(1), "admitted_at": admitted} | changes
    return Claim.model_validate({"job": job, "tiebreak": tiebreak, **given})


def test_jobs_of_the_same_moment_stand_in_the_order_of_what_breaks_ties() -> None:
    world = World([quota("a", 2)])
    world.claims = {"x": claim("x", "2"), "y": claim("y", "1")}
    assert schedule(world.snapshot).admit == ("y",)
    world.claims = {"x": claim("x", ""), "y": claim("y", "")}
    assert schedule(world.snapshot).admit == ("x",)


def test_victims_of_the_same_moment_go_in_the_order_of_what_breaks_ties() -> None:
    world = World([quota("a", 0), quota("b", 2)])
    world.claims = {"x": claim("x", "2", admitted=at(2)), "y": claim("y", "1", admitted=at(2))}
    world.quotas = [quota("a", 0), quota("b", 4)]
    world.submit("mine", "b", 2)
    assert [each.job for each in schedule(world.snapshot).preempt] == ["y"]
