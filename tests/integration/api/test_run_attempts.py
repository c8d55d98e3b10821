"""The attempts of a run: when one begins, times out or is lost, and what the status of the run shows of them."""

from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun
from tests.integration.api.stored_runs import (
    EMPTY,
    LOG,
    TIMEOUT,
    attempt,
    change_job,
    change_run,
    checkpoint,
    is_fenced,
    metric,
    next_run,
    result,
    stored_job,
)
from tests.integration.api.test_spooled_reports import codes

from windlass.domain.jobs import JobState, RunState
from windlass.services.runs import Runs
from windlass.settings import LimitSettings


def test_an_attempt_without_a_heartbeat_times_out_from_its_start(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    ready.clock.advance(TIMEOUT)
    assert run.acquire_attempt("second").json()["attempt"] == 2
    assert (attempt(ready, job).state, attempt(ready, job).ended_at) == ("lost", ready.clock.now())
    assert codes(ready, job)[-2:] == ["attempt_lost", "attempt_started"]


def test_an_attempt_times_out_from_its_last_heartbeat(ready: ControlPlaneHarness, run: SimulatedRun) -> None:
    ready.clock.advance(TIMEOUT - 1)
    assert run.report(1).status_code == 200
    ready.clock.advance(TIMEOUT)
    assert run.acquire_attempt("second").json()["attempt"] == 2


def test_a_run_that_must_stop_or_has_ended_gets_no_attempt(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    ready.clock.advance(TIMEOUT)
    change_run(ready, run, stop="preempt")
    assert is_fenced(run.acquire_attempt("second"))
    change_run(ready, run, stop=None, state=RunState.LOST)
    assert is_fenced(run.acquire_attempt("second"))
    change_run(ready, run, state=RunState.RUNNING)
    change_job(ready, job, state=JobState.FAILED)
    assert is_fenced(run.acquire_attempt("second"))
    change_job(ready, job, state=JobState.RUNNING)
    assert run.acquire_attempt("second").json()["attempt"] == 2


def test_a_trainer_may_start_before_its_job_is_known_to_be_admitted(
    ready: ControlPlaneHarness, job: dict[str, Any]
) -> None:
    change_job(ready, job, state=JobState.QUEUED)
    assert ready.simulated_run(job).acquire_attempt().json()["attempt"] == 1
    assert stored_job(ready, job).state is JobState.RUNNING


@pytest.mark.parametrize("has_trained", [False, True])
def test_only_a_job_that_has_not_trained_fails_because_of_the_storage_limit(
    ready: ControlPlaneHarness, job: dict[str, Any], has_trained: bool
) -> None:
    run = ready.simulated_run(job)
    if has_trained:
        assert run.acquire_attempt("first").json()["attempt"] == 1
        ready.clock.advance(TIMEOUT)
    object.__setattr__(ready.deps, "limits", LimitSettings(project_bytes=1).project_limits)
    assert is_fenced(run.acquire_attempt("second")) is not has_trained
    reason = stored_job(ready, job).reason
    assert (reason and reason.code) == (None if has_trained else "storage_limit_reached")


def test_a_new_attempt_starts_at_its_checkpoint_or_at_0(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    run.report(1, metric(0), metric(3))
    assert stored_job(ready, job).steps_done == 3
    ready.clock.advance(TIMEOUT)
    run.acquire_attempt("second")
    assert stored_job(ready, job).steps_done == 0
    with ready.database.read() as uow:
        assert uow.all_projects().attempts.get({"job": job["id"], "number": 2}).resumed_from_step is None
    shown = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/metrics").json()
    assert shown["series"] == []
    run.report(2, metric(1), checkpoint(1), metric(2))
    ready.clock.advance(TIMEOUT)
    reply = run.acquire_attempt("third").json()
    assert reply["resume"] == {"attempt": 2, "step": 1, "manifest": EMPTY}
    assert (stored_job(ready, job).steps_done, attempt(ready, job, 3).resumed_from_step) == (1, 1)
    assert "started from the checkpoint of step 1" in str(
        ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()
    )


def test_the_status_counts_the_lost_attempts_since_the_newest_checkpoint(
    ready: ControlPlaneHarness, run: SimulatedRun
) -> None:
    def lose(number: int) -> None:
        assert run.post(f"attempts/{number}:lost").status_code == 204
        assert run.acquire_attempt(f"t{number}").json()["attempt"] == number + 1

    assert run.get().json()["lost_attempts"] == 0
    lose(1)
    lose(2)
    assert run.get().json()["lost_attempts"] == 2
    run.report(3, checkpoint(1))
    run.report(3, checkpoint(2))
    assert (run.get().json()["lost_attempts"], run.get().json()["checkpoint"]) == (0, 2)
    lose(3)
    assert run.get().json()["lost_attempts"] == 1, "the attempt of the checkpoint counts"


def test_the_status_shows_for_how_long_a_live_attempt_has_trained(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    ready.clock.advance(5)
    assert (run.get().json()["attempt"], run.get().json()["attempt_seconds"]) == (1, 5)
    run.post("attempts/1:lost")
    assert (run.get().json()["attempt"], run.get().json()["attempt_seconds"]) == (1, None)
    following = next_run(ready, job, run)
    assert (following.get().json()["attempt"], following.get().json()["attempt_seconds"]) == (None, None)


@pytest.mark.parametrize(("outcome", "shown"), [("stopped", None), ("succeeded", 1)])
def test_a_run_shows_the_attempt_of_an_earlier_run_only_if_it_has_finished_the_training(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun, outcome: str, shown: int | None
) -> None:
    run.report(1, result(outcome, manifest=EMPTY, evaluation={}))
    following = next_run(ready, job, run)
    assert following.get().json()["attempt"] == shown
    assert is_fenced(following.report(1, LOG)), "only the run of an attempt reports"
    assert following.post("attempts/1:lost").status_code == 204
    assert attempt(ready, job).state == ("finished" if shown else "stopped")


def test_only_a_live_attempt_of_the_run_can_be_reported_lost(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    assert run.post("attempts/7:lost").status_code == 204
    assert attempt(ready, job).state == "live"
    run.report(1, result("stopped"))
    assert run.post("attempts/1:lost").status_code == 204
    assert attempt(ready, job).state == "stopped"
    assert "attempt_lost" not in codes(ready, job)


def test_a_live_attempt_of_another_run_is_not_reported_lost(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    following = next_run(ready, job, run)
    assert following.acquire_attempt("second").json()["attempt"] == 2
    Runs(ready.deps, run.run, ready.app_context.heartbeat_timeout).report_attempt_lost(2)
    assert attempt(ready, job, 2).state == "live"
    assert following.post("attempts/2:lost").status_code == 204
    assert attempt(ready, job, 2).state == "lost"
