"""The trainer process on a real local Ray, with the real control plane over HTTP."""

import os
import signal
from contextlib import suppress

import psutil
import pytest
from tests.factories.served_control_plane import ServedControlPlane
from tests.factories.training_runs import artifact_folder, job_spec, store_folder
from tests.integration.train.conftest import MakeRun, StartTrainer

from windlass.domain.reports import ResultStatus
from windlass.runtime.artifacts import verify
from windlass.runtime.context import RunEnvironment
from windlass.runtime.flush import flush_reports
from windlass.runtime.spool import spool_dir
from windlass_pipelines.train.driver import FENCED, LOST, REPORTED

pytestmark = [pytest.mark.processes, pytest.mark.timeout(280)]
TRAINING = {"epochs": 10, "batch_size": 8, "learning_rate": 1e-2, "checkpoint_every_steps": 20}
# long enough for a command or a signal during training
LONG = TRAINING | {"max_steps": 4_000, "checkpoint_every_steps": 50, "eval_every_steps": 100_000}


def test_a_complete_attempt_reports_everything_and_writes_an_artifact(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    environment = run_for(job_spec(training=TRAINING, method={"type": "full"}))
    with start_trainer(environment) as trainer:
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    result = control_plane.result
    assert result is not None
    assert result.outcome is ResultStatus.SUCCEEDED
    assert result.manifest is not None
    assert verify(artifact_folder(environment)) == result.manifest
    assert result.evaluation is not None
    assert result.evaluation["weighted_f1"] > 0.9
    assert sorted(control_plane.metrics("train_loss")) == list(range(1, 61))
    committed = [event.context["step"] for event in control_plane.events if event.code == "checkpoint_committed"]
    assert committed == [20, 40, 60]
    assert {"trainer_started", "training_started", "training_finished", "evaluation_finished"} <= set(
        control_plane.event_codes()
    )
    assert list(spool_dir(environment.workspace).iterdir()) == []
    log = control_plane.log("driver") + control_plane.log("rank0")
    assert environment.context.run_token not in output + log
    for line in ("60 steps over ", "step 60 of 60: train_loss=", "evaluation at step 60: loss=", "trained 60 steps"):
        assert line in log, "the log follows the training"


def test_every_gpu_of_a_worker_has_a_process(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    spec = job_spec(training=TRAINING, method={"type": "full"}, resources={"gpus_per_worker": 2})
    with start_trainer(run_for(spec)) as trainer:
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    assert control_plane.result is not None
    assert control_plane.result.evaluation is not None, control_plane.result
    assert control_plane.result.evaluation["weighted_f1"] > 0.9
    assert sorted(control_plane.metrics("train_loss")) == list(range(1, 31)), "16 rows per step over both processes"


def test_a_preempted_trainer_commits_a_checkpoint_and_reports_it(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    environment = run_for(job_spec(training=LONG, method={"type": "lora"}))
    with start_trainer(environment) as trainer:
        control_plane.wait_for(lambda p: p.metrics("train_loss") != {}, timeout=200)
        control_plane.preempt()
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    assert control_plane.result is not None
    assert (control_plane.result.outcome, control_plane.result.code) == (ResultStatus.STOPPED, "preempted")
    assert control_plane.result.trained_seconds > 0
    phases = control_plane.result.phases
    assert phases is not None
    assert min(phases.model_dump().values()) > 0
    newest = control_plane.checkpoints[-1]
    assert newest.step == max(control_plane.metrics("train_loss"))
    assert verify(store_folder(environment) / f"checkpoints/1/{newest.step}") == newest.manifest


def test_a_new_trainer_resumes_after_a_killed_one(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    environment = run_for(job_spec(training=LONG | {"max_steps": 300}, method={"type": "lora"}))
    with start_trainer(environment) as trainer:
        control_plane.wait_for(lambda p: p.checkpoints != [], timeout=200)
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
    flush_reports(environment)
    control_plane.runs.report_attempt_lost(1)
    saved = control_plane.checkpoints[-1].step
    with start_trainer(environment) as trainer:
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    again = [step for attempt, step, _ in control_plane.points("train_loss") if attempt == 2]
    assert again == list(range(saved + 1, 301))
    assert sorted(control_plane.metrics("train_loss")) == list(range(1, 301))


def test_a_fenced_trainer_stops_immediately(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    environment = run_for(job_spec(training=LONG))
    with start_trainer(environment) as trainer:
        control_plane.wait_for(lambda p: p.metrics("train_loss") != {}, timeout=200)
        control_plane.lose_attempt()
        trainer.communicate(timeout=30)
    assert trainer.returncode == FENCED
    assert control_plane.result is None
    assert not (store_folder(environment) / "artifacts").exists()


def test_a_trainer_that_acquires_no_attempt_does_not_connect_to_ray(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    environment = run_for(job_spec())
    control_plane.cancel()
    with start_trainer(environment, "127.0.0.1:1") as trainer:
        trainer.communicate(timeout=60)
    assert trainer.returncode == FENCED
    assert not (environment.workspace / "ray").exists()


def test_damaged_data_is_a_failed_result_and_not_a_lost_attempt(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    environment = run_for(job_spec(training=TRAINING))
    (store_folder(environment) / "data/rows/train.jsonl").write_text("cut", encoding="utf-8")
    with start_trainer(environment) as trainer:
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    assert control_plane.result is not None
    assert (control_plane.result.outcome, control_plane.result.code) == (
        ResultStatus.FAILED,
        "input_damaged",
    )
    assert "train.jsonl" in control_plane.result.message


def test_a_dead_worker_loses_the_attempt(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    environment = run_for(job_spec(training=LONG))
    with start_trainer(environment) as trainer:
        control_plane.wait_for(lambda p: p.metrics("train_loss") != {}, timeout=200)
        os.kill(_worker_of(environment), signal.SIGKILL)
        output, _ = trainer.communicate(timeout=120)
    assert trainer.returncode == LOST, output
    assert control_plane.result is None


def test_a_trainer_without_ray_fails_immediately(
    control_plane: ServedControlPlane, run_for: MakeRun, start_trainer: StartTrainer
) -> None:
    environment = run_for(job_spec())
    with start_trainer(environment, "127.0.0.1:1") as trainer:
        output, _ = trainer.communicate(timeout=60)
    assert trainer.returncode == LOST, output
    assert "connection refused by Ray at" in output
    assert not (environment.workspace / "ray").exists()


def _worker_of(environment: RunEnvironment) -> int:
    """Return the process that writes the spool file of rank 0."""
    journal = str(spool_dir(environment.workspace) / "1-rank0.jsonl")
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(opened.path == journal for opened in process.open_files()):
                return process.pid
    raise AssertionError("no process has the spool file of rank 0 open")
