"""What the reports of a run change: its attempts, its job, checkpoints, steps and log; and what changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun
from tests.integration.api.test_run_protocol import step_log
from tests.integration.api.test_spooled_reports import codes

from windlass.domain.ids import MAX_INTEGER
from windlass.domain.jobs import Attempt, Job, JobState, Run, RunState
from windlass.ports import BackendState
from windlass.services.runs import Runs
from windlass.settings import LimitSettings
from windlass.storage.local import LocalObjectStore

EMPTY: dict[str, Any] = {"files": {}}
TIMEOUT = 30
"""Heartbeat timeout of the harness, in seconds."""


@pytest.fixture
def job(ready: ControlPlaneHarness) -> dict[str, Any]:
    job = ready.submit("ours", key="one")
    ready.run_worker_once(2)
    return job


@pytest.fixture
def run(ready: ControlPlaneHarness, job: dict[str, Any]) -> SimulatedRun:
    run = ready.simulated_run(job)
    assert run.acquire_attempt("first").status_code == 200
    return run


def metric(step: int, name: str = "train_loss") -> dict[str, Any]:
    return {"type": "metric", "name": name, "step": step, "value": 1.0}


def checkpoint(step: int) -> dict[str, Any]:
    return {"type": "checkpoint", "step": step, "manifest": EMPTY}


def event(code: str, **context: Any) -> dict[str, Any]:
    return {"type": "event", "code": code, "message": "", "context": context}


def result(outcome: str, **more: Any) -> dict[str, Any]:
    return {"type": "result", "outcome": outcome, **more}


LOG = {"type": "log", "text": "line"}


def stored_job(harness: ControlPlaneHarness, job: dict[str, Any]) -> Job:
    with harness.database.read() as uow:
        return uow.all_projects().jobs.get({"id": job["id"]})


def stored_run(harness: ControlPlaneHarness, run: SimulatedRun) -> Run:
    with harness.database.read() as uow:
        return uow.all_projects().runs.get({"id": run.run})


def attempt(harness: ControlPlaneHarness, job: dict[str, Any], number: int = 1) -> Attempt:
    with harness.database.read() as uow:
        return uow.all_projects().attempts.get({"job": job["id"], "number": number})


def checkpoints(harness: ControlPlaneHarness, job: dict[str, Any]) -> list[tuple[int, int]]:
    """Attempt and step of each checkpoint."""
    with harness.database.read() as uow:
        return [(each.attempt, each.step) for each in uow.all_projects().checkpoints.all({"job": job["id"]})]


def change_job(harness: ControlPlaneHarness, job: dict[str, Any], **update: Any) -> None:
    with harness.database.write() as uow:
        jobs = uow.all_projects().jobs
        jobs.save(jobs.get({"id": job["id"]}).model_copy(update=update))


def change_run(harness: ControlPlaneHarness, run: SimulatedRun, **update: Any) -> None:
    with harness.database.write() as uow:
        runs = uow.all_projects().runs
        runs.save(runs.get({"id": run.run}).model_copy(update=update))


def next_run(harness: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun) -> SimulatedRun:
    """Lose a run, and return the one that replaces it."""
    harness.pipelines.end(run.name, BackendState.LOST, "gone")
    harness.run_worker_once(2)
    replacing = harness.simulated_run(job)
    assert replacing.run != run.run
    return replacing


def log_object(harness: ControlPlaneHarness, job: dict[str, Any]) -> bytes:
    """All text that was stored, also what the job's log does not show."""
    text = b""
    for key in harness.store.keys("projects"):
        if key.endswith(f"{job['id']}/log"):
            with harness.store.open(key) as stream:
                text += stream.read()
    return text


def log(harness: ControlPlaneHarness, job: dict[str, Any]) -> str:
    return harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/logs").text


def is_fenced(reply: Any) -> bool:
    return (reply.status_code, reply.json().get("code")) == (409, "fenced")


# ---------------------------------------------------------------- attempts


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


# ---------------------------------------------------------------- reports


def test_heartbeats_are_counted_and_change_nothing_else(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    before = stored_job(ready, job)
    ready.clock.advance(1)
    for _ in range(2):
        assert run.report(1).json() == {"acknowledged": run.sequence, "command": "continue", "reason": ""}
    assert stored_job(ready, job) == before
    assert (attempt(ready, job).heartbeats, attempt(ready, job).heartbeat_at) == (2, ready.clock.now())


def test_the_number_of_a_heartbeat_has_no_meaning(ready: ControlPlaneHarness, run: SimulatedRun) -> None:
    del ready
    assert run.report(1).status_code == 200
    run.post("attempts/1:lost")
    run.sequence = 0
    assert is_fenced(run.report(1))


def test_an_attempt_is_not_written_after_its_end(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    run.report(1, result("succeeded", manifest=EMPTY, evaluation={}))
    ended = attempt(ready, job)
    assert (ended.state, ended.ended_at, ended.heartbeats) == ("finished", ready.clock.now(), 1)
    ready.clock.advance(1)
    assert run.report(1).status_code == 200
    assert run.report(1, LOG, metric(1), source="rank1").status_code == 200
    assert attempt(ready, job) == ended


@pytest.mark.parametrize(
    ("outcome", "measurements", "heartbeats"),
    [("succeeded", True, True), ("failed", True, False), ("stopped", False, False), (None, False, False)],
)
def test_what_an_attempt_may_report_after_its_end(
    ready: ControlPlaneHarness,
    job: dict[str, Any],
    run: SimulatedRun,
    outcome: str | None,
    measurements: bool,
    heartbeats: bool,
) -> None:
    if outcome is None:
        run.post("attempts/1:lost")
    else:
        run.report(1, result(outcome, manifest=EMPTY, evaluation={}))
    size = len(log_object(ready, job))
    for items in ([metric(1)], [event("late")], [metric(2), LOG]):
        assert is_fenced(run.report(1, *items)) is not measurements
    assert (len(log_object(ready, job)) > size) is measurements, "no text is stored for a report that is refused"
    assert is_fenced(run.report(1, checkpoint(1)))
    assert is_fenced(run.report(1, checkpoint(1), metric(3)))
    assert is_fenced(run.report(1, result("failed")))
    assert is_fenced(run.report(1)) is not heartbeats
    assert run.report(1, LOG).status_code == 200
    assert checkpoints(ready, job) == []


def test_measurements_of_an_attempt_that_is_not_the_newest_are_fenced(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    run.report(1, result("failed"))
    assert run.acquire_attempt("second").json()["attempt"] == 2
    assert is_fenced(run.report(1, metric(1)))
    assert run.report(1, LOG).status_code == 200
    assert run.report(2, metric(1)).status_code == 200
    assert stored_job(ready, job).steps_done == 1


def test_an_attempt_that_does_not_exist_is_fenced(run: SimulatedRun) -> None:
    assert is_fenced(run.report(2))
    assert is_fenced(run.report(2, LOG))


def test_a_successful_result_needs_a_manifest_and_an_evaluation(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    parts: list[dict[str, Any]] = [{}, {"manifest": EMPTY}, {"evaluation": {}}]
    for part in parts:
        reply = run.report(1, result("succeeded", **part))
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid")
        assert attempt(ready, job).state == "live"
    assert run.report(1, result("failed")).status_code == 200


def test_the_training_time_of_attempts_is_added_up(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    run.report(1, result("failed", trained_seconds=2.0))
    assert run.acquire_attempt("second").json()["trained_seconds"] == 2.0
    run.report(2, result("failed", trained_seconds=3.0))
    assert (attempt(ready, job, 2).trained_seconds, stored_job(ready, job).trained_seconds) == (3.0, 5.0)


def test_progress_is_that_of_the_training_loss_and_of_the_training_started_event(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    def progress(*items: dict[str, Any]) -> tuple[int, int | None]:
        assert run.report(1, *items).status_code == 200
        stored = stored_job(ready, job)
        return stored.steps_done, stored.steps_planned

    assert progress(event("other", steps=5), metric(4, "eval_loss")) == (0, None)
    assert progress(event("training_started", steps=0)) == (0, None)
    assert progress(event("training_started", steps="9")) == (0, None)
    assert progress(event("training_started", steps=MAX_INTEGER + 1)) == (0, None)
    assert progress(event("training_started", steps=1), metric(2), metric(1)) == (2, 1)
    assert progress(event("training_started", steps=MAX_INTEGER)) == (2, MAX_INTEGER)
    assert progress(event("training_started"), metric(1)) == (2, MAX_INTEGER)
    assert progress(event("other", steps=7)) == (2, MAX_INTEGER)


def test_a_checkpoint_of_the_same_step_replaces_that_of_the_attempt_before(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    run.report(1, checkpoint(1))
    assert codes(ready, job)[-1] == "checkpoint_committed"
    run.post("attempts/1:lost")
    run.acquire_attempt("second")
    assert run.report(2, checkpoint(1), checkpoint(2)).status_code == 200
    assert checkpoints(ready, job) == [(2, 1), (2, 2)]

    def prune(attempt: int, sequence: int) -> None:
        items = [{"type": "checkpoint_pruned", "step": 2, "attempt": attempt}]
        body = {"source": "pruning", "sequence": sequence, "items": items}
        assert run.post("attempts/2/reports", body).status_code == 200

    prune(1, 1)
    assert checkpoints(ready, job) == [(2, 1), (2, 2)], "that of another attempt has other files"
    prune(2, 2)
    assert checkpoints(ready, job) == [(2, 1)]


@pytest.mark.parametrize(
    ("state", "stop", "command"),
    [
        (JobState.RUNNING, None, "continue"),
        (JobState.RUNNING, "shutdown", "continue"),
        (JobState.RUNNING, "preempt", "preempt"),
        (JobState.RUNNING, "cancel", "cancel"),
        (JobState.CANCELLING, None, "cancel"),
        (JobState.CANCELLING, "preempt", "cancel"),
        (JobState.CANCELLED, None, "cancel"),
    ],
)
def test_the_command_is_what_the_job_and_the_run_require(
    ready: ControlPlaneHarness,
    job: dict[str, Any],
    run: SimulatedRun,
    state: JobState,
    stop: str | None,
    command: str,
) -> None:
    change_job(ready, job, state=state)
    change_run(ready, run, stop=stop)
    assert run.get().json()["command"] == command
    assert run.report(1).json()["command"] == command


# ---------------------------------------------------------------- steps and their log


def put_step(run: SimulatedRun, step: str, state: str, message: str = "") -> None:
    reply = run.client.put(f"/internal/v1/runs/{run.run}/steps/{step}", json={"state": state, "message": message})
    assert reply.status_code == 204


def test_the_state_of_a_step_is_stored_and_is_an_event_once(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    change_run(ready, run, state=RunState.PENDING)
    for _ in range(2):
        put_step(run, "train", "running")
    put_step(run, "load", "failed", "no such file")
    stored = stored_run(ready, run)
    assert (stored.steps, stored.state) == ({"train": "running", "load": "failed"}, RunState.RUNNING)
    events = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()["items"]
    assert [each["message"] for each in events if each["code"].startswith("step_")] == [
        "step train running",
        "step load failed: no such file",
    ]


def test_the_steps_of_an_ended_run_do_not_change(ready: ControlPlaneHarness, run: SimulatedRun) -> None:
    change_run(ready, run, state=RunState.FAILED)
    put_step(run, "train", "running")
    assert (stored_run(ready, run).steps, stored_run(ready, run).state) == ({}, RunState.FAILED)


def during_storing(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Call ``action`` once, while text is being stored and before it is added to the log."""
    extend = LocalObjectStore.extend
    calls: list[str] = []

    def extend_and_act(self: LocalObjectStore, key: str, data: bytes) -> tuple[str, int]:
        if not calls:
            calls.append(key)
            action()
        return extend(self, key, data)

    monkeypatch.setattr(LocalObjectStore, "extend", extend_and_act)


def test_a_chunk_of_a_steps_log_is_stored_once(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert run.post("steps/train/logs", step_log(1, "one\n")).status_code == 204
    assert log_object(ready, job).count(b"one") == 1
    chunk = step_log(2, "two\n")
    during_storing(monkeypatch, lambda: run.post("steps/train/logs", chunk))
    assert run.post("steps/train/logs", chunk).status_code == 204
    assert log_object(ready, job).count(b"two") == 2, "both requests store it, since neither sees the other"
    assert [line.rsplit(" ", 1)[1] for line in log(ready, job).splitlines()] == ["one", "two"]


def test_a_run_that_has_ended_stores_no_text(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    during_storing(monkeypatch, lambda: change_run(ready, run, state=RunState.FAILED))
    assert is_fenced(run.post("steps/train/logs", step_log(1, "while it ends\n")))
    stored = log_object(ready, job)
    assert is_fenced(run.post("steps/train/logs", step_log(2, "after its end\n")))
    assert (log_object(ready, job), log(ready, job)) == (stored, "")


def test_a_report_without_text_stores_no_text(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[str] = []
    during_storing(monkeypatch, lambda: stored.append("text"))
    assert run.report(1, metric(1)).status_code == 200
    assert (stored, log_object(ready, job)) == ([], b"")
    assert run.report(1, LOG).status_code == 200
    assert stored == ["text"]
