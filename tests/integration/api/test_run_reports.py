"""What the reports of a run change: its attempts, its job, checkpoints, steps and log; and what changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun
from tests.integration.api.stored_runs import (
    EMPTY,
    LOG,
    attempt,
    change_job,
    change_run,
    checkpoint,
    checkpoints,
    event,
    is_fenced,
    log_object,
    metric,
    result,
    stored_job,
    stored_run,
)
from tests.integration.api.test_run_protocol import log, step_log
from tests.integration.api.test_spooled_reports import codes

from windlass.domain.ids import MAX_INTEGER
from windlass.domain.jobs import JobState, RunState
from windlass.storage.local import LocalObjectStore


def test_heartbeats_are_counted_and_change_nothing_else(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    before = stored_job(ready, job)
    ready.clock.advance(1)
    for _ in range(2):
        assert run.report(1).json() == {"acknowledged": run.sequence, "command": "continue", "reason": ""}
    assert stored_job(ready, job) == before
    assert (attempt(ready, job).heartbeats, attempt(ready, job).heartbeat_at) == (2, ready.clock.now())


def test_the_number_of_a_heartbeat_has_no_meaning(run: SimulatedRun) -> None:
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


def test_a_batch_that_is_sent_again_is_acknowledged_and_applied_once(
    ready: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun
) -> None:
    for _ in range(2):
        run.sequence = 6
        items = event("early_stopped", step=3), result("failed", trained_seconds=2.0)
        assert run.report(1, *items).json()["acknowledged"] == 7
    assert stored_job(ready, job).trained_seconds == 2.0
    items_shown = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()["items"]
    [shown] = [each for each in items_shown if each["code"] == "early_stopped"]
    assert (shown["context"], shown["attempt"]) == ({"step": 3}, 1)


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
