"""The trainer as a process on a real local Ray, against a control plane over HTTP."""

import json
import os
import signal
from contextlib import suppress

import psutil
import pytest
from tests.factories.training_runs import job_spec
from tests.fakes.control_plane import FakeControlPlane
from tests.integration.train.conftest import MakeContext, StartTrainer

from windlass.domain.reports import CheckpointItem, Command, Outcome
from windlass.runtime.artifacts import verify
from windlass.runtime.context import RunContext
from windlass.runtime.draining import drain
from windlass.runtime.spool import folder_of
from windlass_pipelines.train.driver import FENCED, LOST, REPORTED

pytestmark = [pytest.mark.processes, pytest.mark.timeout(280)]
TRAINING = {"epochs": 10, "batch_size": 8, "learning_rate": 1e-2, "checkpoint_every_steps": 20}
# long enough that a command, or a signal, comes in the middle of it
LONG = TRAINING | {"max_steps": 4_000, "checkpoint_every_steps": 50, "eval_every_steps": 100_000}


def test_a_whole_attempt_reports_everything_and_leaves_an_artifact(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    context = context_for(job_spec(training=TRAINING, method={"type": "full"}))
    with start_trainer(context) as trainer:
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    result = plane.state.result
    assert result is not None
    assert result.outcome is Outcome.SUCCEEDED
    assert result.manifest is not None
    verify(context.store_root / str(result.artifact_prefix), result.manifest)
    assert result.evaluation is not None
    assert result.evaluation["weighted_f1"] > 0.9
    assert sorted(plane.metrics("train_loss")) == list(range(1, 61))
    assert [item.step for item in plane.of(CheckpointItem)] == [20, 40, 60]
    assert {"trainer_started", "training_started", "training_finished", "evaluation_finished"} <= set(plane.events())
    assert json.loads((context.workspace / "attempt.json").read_bytes())["attempt"] == 1
    assert list(folder_of(context.workspace).iterdir()) == []
    assert context.run_token not in output + plane.logs()


def test_two_workers_train_one_model(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    spec = job_spec(training=TRAINING, method={"type": "full"}, resources={"workers": 2})
    with start_trainer(context_for(spec)) as trainer:
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    assert plane.state.result is not None
    assert plane.state.result.evaluation is not None, plane.state.result
    assert plane.state.result.evaluation["weighted_f1"] > 0.9
    assert sorted(plane.metrics("train_loss")) == list(range(1, 31)), "16 rows per step over both workers"


def test_a_preempted_trainer_commits_a_checkpoint_and_says_so(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    context = context_for(job_spec(training=LONG, method={"type": "lora"}))
    with start_trainer(context) as trainer:
        plane.wait_for(lambda p: p.raw_metrics("train_loss") != [], timeout=200)
        plane.command = Command.PREEMPT
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    assert plane.state.result is not None
    assert (plane.state.result.outcome, plane.state.result.code) == (Outcome.STOPPED, "preempted")
    assert plane.state.result.trained_seconds > 0
    newest = plane.of(CheckpointItem)[-1]
    assert newest.step == max(plane.metrics("train_loss"))
    verify(context.store_root / newest.prefix, newest.manifest)


def test_a_killed_trainer_is_followed_by_one_that_resumes(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    context = context_for(job_spec(training=LONG | {"max_steps": 300}, method={"type": "lora"}))
    with start_trainer(context) as trainer:
        plane.wait_for(lambda p: bool(p.of(CheckpointItem)), timeout=200)
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
    left = json.loads((context.workspace / "attempt.json").read_bytes())
    drain(context)
    plane.lost(left["attempt"], left)
    saved = plane.of(CheckpointItem)[-1].step
    with start_trainer(context) as trainer:
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    again = [step for attempt, step, _ in plane.raw_metrics("train_loss") if attempt == 2]
    assert again == list(range(saved + 1, 301))
    assert sorted(plane.metrics("train_loss")) == list(range(1, 301))


def test_a_trainer_that_loses_the_fence_stops_at_once(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    context = context_for(job_spec(training=LONG))
    with start_trainer(context) as trainer:
        plane.wait_for(lambda p: p.raw_metrics("train_loss") != [], timeout=200)
        plane.state.attempts[-1].state = "lost"
        trainer.communicate(timeout=30)
    assert trainer.returncode == FENCED
    assert plane.state.result is None
    assert not (context.store_root / context.artifact_prefix).exists()


def test_a_trainer_that_is_fenced_at_the_claim_never_touches_ray(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    plane.job_state = "cancelled"
    context = context_for(job_spec()).model_copy(update={"ray_address": "127.0.0.1:1"})
    with start_trainer(context) as trainer:
        trainer.communicate(timeout=60)
    assert trainer.returncode == FENCED
    assert not (context.workspace / "ray").exists()


def test_bad_data_is_a_failed_result_and_not_a_lost_attempt(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    context = context_for(job_spec(training=TRAINING))
    (context.store_root / "data/rows/train.jsonl").write_text("cut", encoding="utf-8")
    with start_trainer(context) as trainer:
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    assert plane.state.result is not None
    assert (plane.state.result.outcome, plane.state.result.code) == (Outcome.FAILED, "input_damaged")
    assert "train.jsonl" in plane.state.result.message


def test_the_death_of_a_worker_is_the_loss_of_the_attempt(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    context = context_for(job_spec(training=LONG))
    with start_trainer(context) as trainer:
        plane.wait_for(lambda p: p.raw_metrics("train_loss") != [], timeout=200)
        os.kill(_worker_of(context), signal.SIGKILL)
        output, _ = trainer.communicate(timeout=120)
    assert trainer.returncode == LOST, output
    assert plane.state.result is None


def test_a_trainer_whose_ray_is_gone_says_so_at_once(
    plane: FakeControlPlane, context_for: MakeContext, start_trainer: StartTrainer
) -> None:
    context = context_for(job_spec()).model_copy(update={"ray_address": "127.0.0.1:1"})
    with start_trainer(context) as trainer:
        output, _ = trainer.communicate(timeout=60)
    assert trainer.returncode == LOST, output
    assert "nobody listens at Ray's address" in output
    assert not (context.workspace / "ray").exists()


def _worker_of(context: RunContext) -> int:
    """Return the process that writes the journal of rank 0."""
    journal = str(folder_of(context.workspace) / "1-rank0.jsonl")
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(opened.path == journal for opened in process.open_files()):
                return process.pid
    raise AssertionError("no process has the journal of rank 0")
