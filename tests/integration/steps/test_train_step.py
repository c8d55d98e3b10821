"""The train step against the real control plane, with a stub trainer in a process of its own."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response
from tests.factories.local_runs import spec, step_settings, trainer_record
from tests.factories.run_contexts import run_context, run_environment
from tests.factories.served_control_plane import ServedControlPlane, problem

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import WindlassError
from windlass.domain.jobs import Reason
from windlass.domain.reports import CheckpointItem, Command, ReportBatch
from windlass.orchestration import processes
from windlass.orchestration.local_launcher import LocalLauncher
from windlass.ports import BackendState, RunLostError, TrainerState, TrainerStatus
from windlass.runtime.context import RAY_ADDRESS_VARIABLE
from windlass_pipelines.steps import launchers
from windlass_pipelines.steps import train as train_module
from windlass_pipelines.steps.progress import StepFailedError, read_statuses
from windlass_pipelines.steps.train import train

pytestmark = pytest.mark.processes
Train = Callable[..., str]
STEP_SPEC = spec(max_duration_seconds=10)


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as control_plane:
        yield control_plane


@pytest.fixture
def train_step(control_plane: ServedControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    level = logging.getLogger("httpx2").level

    def run(*behaviours: str, **settings: object) -> str:
        environment = control_plane.environment(run_environment(tmp_path, run_context(tmp_path, STEP_SPEC)))
        for name, value in environment.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(RAY_ADDRESS_VARIABLE, control_plane.ray_address)
        monkeypatch.setenv("WINDLASS_STEP_SETTINGS", json.dumps(step_settings(*behaviours, **settings)))
        return train()

    yield run
    logging.getLogger("httpx2").setLevel(level)


def at_first_report(act: Callable[[], None]) -> Callable[[str], bool]:
    """Return a predicate that drops no reply, and acts when the first report of the trainer was handled."""
    pending = [act]

    def handled(path: str) -> bool:
        if path.endswith("/reports") and pending:
            pending.pop()()
        return False

    return handled


def trainer_starts(tmp_path: Path) -> int:
    return (tmp_path / "workspace" / "trainer_starts").stat().st_size


def log(control_plane: ServedControlPlane) -> str:
    return control_plane.log("train")


def failures(control_plane: ServedControlPlane) -> list[str]:
    """The messages with which steps have failed."""
    return [event.message for event in control_plane.events if event.code == "step_failed"]


def test_a_result_ends_the_step(train_step: Train, control_plane: ServedControlPlane, tmp_path: Path) -> None:
    assert train_step("ok") == "succeeded"
    assert control_plane.steps == {"train": "succeeded"}
    assert read_statuses(tmp_path / "workspace")["train"].outcome == "succeeded"
    sequences = [sequence for sequence, _ in control_plane.step_log_chunks("train")]
    assert sequences == list(range(1, len(sequences) + 1))
    assert "stub trainer, start 1: ok" in log(control_plane)


def test_the_result_of_an_earlier_run_ends_the_step_without_a_trainer(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    assert train_step("ok") == "succeeded"
    first = control_plane.job.run
    control_plane.end_run(BackendState.LOST)  # before its register step
    control_plane.admit_again()
    assert train_step("die") == "succeeded"
    assert (first, control_plane.job.run) == (1, 2)
    assert trainer_starts(tmp_path) == 1
    assert "the training of the job has finished already" in log(control_plane)


def test_the_trainer_of_a_replaced_process_is_adopted_with_its_number(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the pod of a run was evicted during the second start of its trainer."""

    class AdoptingLauncher(LocalLauncher):
        def poll(self, run_name: str) -> TrainerStatus:
            status = super().poll(run_name)
            if status.state is TrainerState.UNKNOWN:  # the step's first call
                super().launch(run_context(tmp_path, STEP_SPEC), 2)
            return super().poll(run_name)

    monkeypatch.setattr(launchers, "LocalLauncher", AdoptingLauncher)
    control_plane.bind(run_context(tmp_path, STEP_SPEC))
    lose_attempts(control_plane, 1)
    with pytest.raises(WindlassError, match="failed 3 times"):
        train_step("die")
    assert trainer_starts(tmp_path) == 2
    assert "trainer adopted (start 2)" in log(control_plane)
    assert "trainer started (start 3)" in log(control_plane)
    assert "(start 1)" not in log(control_plane)


def test_a_replaced_process_counts_only_the_failures_since_the_newest_checkpoint(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AdoptingLauncher(LocalLauncher):
        def poll(self, run_name: str) -> TrainerStatus:
            status = super().poll(run_name)
            if status.state is TrainerState.UNKNOWN:
                super().launch(run_context(tmp_path, STEP_SPEC), 6)
            return super().poll(run_name)

    monkeypatch.setattr(launchers, "LocalLauncher", AdoptingLauncher)
    control_plane.bind(run_context(tmp_path, STEP_SPEC))
    lose_attempts(control_plane, 5, checkpoints=True)
    with pytest.raises(WindlassError, match="failed 3 times"):
        train_step("die")
    assert trainer_starts(tmp_path) == 2, "the attempt with the newest checkpoint was lost after it"


def test_the_time_limit_includes_the_time_before_a_trainer_was_adopted(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AdoptingLauncher(LocalLauncher):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            super().launch(run_context(tmp_path, STEP_SPEC), 1)
            control_plane.wait_for(lambda p: p.attempts != [])
            control_plane.harness.clock.advance(24 * 3600)

    monkeypatch.setattr(launchers, "LocalLauncher", AdoptingLauncher)
    with pytest.raises(StepFailedError, match="maximum duration"):
        train_step("hang", hang_timeout_seconds=3600)
    assert trainer_starts(tmp_path) == 1


def lose_attempts(control_plane: ServedControlPlane, number: int, *, checkpoints: bool = False) -> None:
    """Let attempts begin and end without a result, each after a checkpoint or without one."""
    for attempt in range(1, number + 1):
        control_plane.runs.acquire_attempt(f"trainer {attempt}")
        if checkpoints:
            item = CheckpointItem(step=attempt, manifest=Manifest(files={}), metrics={}, time=datetime.now(UTC))
            control_plane.runs.report(attempt, ReportBatch(source="rank0", sequence=1, items=(item,)))
        control_plane.lose_attempt()


def test_a_failed_trainer_is_restarted_immediately(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    assert train_step("die", "die-early", "ok") == "succeeded"
    assert control_plane.attempt_states == ["lost", "finished"]
    assert trainer_starts(tmp_path) == 3
    assert "signal 9 (Killed)" in log(control_plane)
    assert "exit code 1" in log(control_plane)


def test_the_third_failure_fails_the_step_with_its_exit_reason(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    with pytest.raises(WindlassError, match=r"failed 3 times.*signal 9"):
        train_step("die")
    assert control_plane.attempt_states == ["lost"] * 3
    assert control_plane.steps["train"] == "failed"
    assert read_statuses(tmp_path / "workspace")["train"].state == "failed"


def test_a_trainer_that_progresses_may_fail_often(train_step: Train, control_plane: ServedControlPlane) -> None:
    """As a long training whose nodes are replaced from time to time."""
    assert train_step(*["progress"] * 4, "die", "ok") == "succeeded"
    assert control_plane.attempt_states == ["lost"] * 5 + ["finished"]
    assert [checkpoint.step for checkpoint in control_plane.checkpoints] == [1, 2, 3, 4]


def test_the_reason_of_the_last_failure_is_that_of_the_step(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a RayJob: a local trainer has no reason."""
    killed = Reason(code="oom_killed", message="Container ray-worker was killed", action="Reduce the batch size")

    class ExplainingLauncher(LocalLauncher):
        def poll(self, run_name: str) -> TrainerStatus:
            status = super().poll(run_name)
            failed = status.state is TrainerState.FAILED
            return status.model_copy(update={"reason": killed}) if failed else status

    monkeypatch.setattr(launchers, "LocalLauncher", ExplainingLauncher)
    with pytest.raises(StepFailedError, match=r"failed 3 times.*ray-worker was killed"):
        train_step("die")
    reason = read_statuses(tmp_path / "workspace")["train"].reason
    assert reason is not None
    assert (reason.code, reason.action) == ("oom_killed", "Reduce the batch size")
    assert "Container ray-worker was killed" in log(control_plane)
    assert "ray-worker was killed" in failures(control_plane)[0]


def test_a_fenced_trainer_is_not_restarted(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    control_plane.bind(run_context(tmp_path, STEP_SPEC))
    control_plane.cancel()
    assert train_step("ok") == "stopped"
    assert control_plane.attempt_states == []
    assert trainer_starts(tmp_path) == 1


@pytest.mark.parametrize("command", [Command.PREEMPT, Command.CANCEL])
def test_a_trainer_that_dies_after_a_stop_request_is_not_restarted(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path, command: Command
) -> None:
    stop = control_plane.preempt if command is Command.PREEMPT else control_plane.cancel
    control_plane.drop_replies = at_first_report(stop)
    assert train_step("die-late") == "stopped"
    assert control_plane.attempt_states == ["lost"]
    assert trainer_starts(tmp_path) == 1


def test_a_failed_result_is_final(train_step: Train, tmp_path: Path) -> None:
    with pytest.raises(WindlassError, match="the loss is not a number"):
        train_step("fail")
    assert trainer_starts(tmp_path) == 1


def test_a_trainer_that_exceeds_its_time_limit_is_killed(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    with pytest.raises(StepFailedError, match="maximum duration") as failed:
        train_step("stubborn", hang_timeout_seconds=-6.0)
    assert failed.value.reason.code == "max_duration_exceeded"
    assert processes.pids(trainer_record(tmp_path / "workspace")) == []
    assert "live" not in control_plane.attempt_states
    assert trainer_starts(tmp_path) == 1


def test_a_run_with_a_revoked_token_stops(train_step: Train, control_plane: ServedControlPlane, tmp_path: Path) -> None:
    control_plane.drop_replies = at_first_report(lambda: control_plane.end_run(BackendState.LOST, revoke_token=True))
    assert train_step("hang") == "stopped"
    assert trainer_starts(tmp_path) == 1


def test_a_run_without_ray_is_lost_and_starts_no_trainer(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    control_plane.stop_ray()
    with pytest.raises(RunLostError, match="is lost"):
        train_step("ok")
    assert not (tmp_path / "workspace" / "trainer_starts").exists()
    assert read_statuses(tmp_path / "workspace")["train"].outcome == "lost"
    assert failures(control_plane) == [f"step train failed: Ray at {control_plane.ray_address} is lost"]


@pytest.mark.parametrize("behaviour", ["die-late", "stubborn"])
def test_a_trainer_that_dies_or_hangs_without_ray_is_not_restarted(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path, behaviour: str
) -> None:
    control_plane.drop_replies = at_first_report(control_plane.stop_ray)
    with pytest.raises(RunLostError, match="is lost"):
        train_step(behaviour)
    assert trainer_starts(tmp_path) == 1
    assert control_plane.attempt_states == ["lost"]
    assert processes.pids(trainer_record(tmp_path / "workspace")) == []


def test_a_result_before_the_loss_of_ray_counts(train_step: Train, control_plane: ServedControlPlane) -> None:
    control_plane.drop_replies = at_first_report(control_plane.stop_ray)
    assert train_step("ok") == "succeeded"


def test_an_attempt_with_a_result_that_cannot_be_stored_yet_is_not_reported_lost(
    train_step: Train, control_plane: ServedControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "_FLUSH_TIMEOUT_SECONDS", 0.1)

    def refuse_result(path: str, body: Any) -> Response | None:
        is_result = path.endswith("/reports") and any(item["type"] == "result" for item in body["items"])
        waits = any("waits to be stored" in text for _, text in control_plane.step_log_chunks("train"))
        return problem(507, "storage_full") if is_result and not waits else None

    control_plane.intercept = refuse_result
    assert train_step("spool") == "succeeded"
    assert control_plane.attempt_states == ["finished"]
    assert trainer_starts(tmp_path) == 1
    assert "waits to be stored" in log(control_plane)
