"""Which GPUs of victims count as free within one step, and which jobs can be victims of a second job."""

import pytest
from tests.unit.quota.scenarios import Scenario, quota

from windlass.domain.quota import Preemption


def test_the_order_of_the_heads_counts_the_gpus_that_their_victims_release() -> None:
    """``urgent`` leaves its project within nominal, although the project borrows now; so the priority decides."""
    scenario = Scenario([quota("a", 1), quota("b", 1)])
    scenario.run("running", "a", 2)
    scenario.submit("mine", "b", 1)
    scenario.submit("urgent", "a", 1, priority=1)
    assert scenario.step().preempt == (Preemption(job="running", by="urgent", reason="priority"),)


def test_gpus_of_victims_that_do_not_suffice_are_not_free() -> None:
    """``more`` would fit without ``owner``, which is first; the GPUs of its victim are not free for ``borrower``."""
    scenario = Scenario([quota("a", 8), quota("b", 0), quota("c", 2)])
    scenario.run("large", "a", 5)
    scenario.run("small", "a", 3)
    scenario.run("stops", "c", 1)
    scenario._change("stops", terminating=True)
    scenario.submit("owner", "c", 2)
    scenario.submit("more", "a", 4, priority=1)
    scenario.submit("borrower", "b", 1)
    decisions = scenario.step()
    assert (decisions.admit, decisions.preempt) == ((), ())
    assert {job: decision.free for job, decision in decisions.waiting.items()} == {"owner": 0, "more": 0, "borrower": 0}


def test_a_job_that_is_already_preempted_is_no_victim_of_another_job() -> None:
    """Both heads choose ``new`` first; the second one then needs ``old``."""
    scenario = Scenario([quota("a", 1), quota("b", 3)])
    scenario.run("old", "b", 2)
    scenario.run("new", "b", 2)
    scenario.submit("mine", "a", 1, priority=2)
    scenario.submit("urgent", "b", 3, priority=1)
    assert scenario.step().preempt == (
        Preemption(job="new", by="mine", reason="reclaim"),
        Preemption(job="old", by="urgent", reason="priority"),
    )


@pytest.mark.parametrize("has_next", [False, True])
def test_a_job_whose_preemption_was_revoked_can_be_preempted_for_another_job(has_next: bool) -> None:
    """``urgent`` takes ``running`` and the admission of ``early``; without ``early`` it fits beside ``running``."""
    scenario = Scenario([quota("a", 2), quota("b", 5)])
    scenario.run("running", "b", 1)
    scenario.submit("early", "a", 3, priority=1)
    scenario.submit("urgent", "b", 5, priority=1)
    if has_next:
        scenario.submit("next", "b", 2, priority=1)
    decisions = scenario.step()
    assert decisions.admit == ("urgent",)
    assert {each.job: each.by for each in decisions.preempt} == ({"running": "next"} if has_next else {})
