"""An interrupted and resumed training computes exactly the same numbers as an uninterrupted one."""

import json
from collections.abc import Callable

import pytest
from safetensors.torch import load_file
from tests.factories.training_runs import artifact_folder, job_spec, moved, store_folder
from tests.fakes.recording_reporter import RecordingReporter
from tests.unit.train.conftest import Attempt, MakeRun

from windlass.domain.reports import Command, ResumePoint
from windlass.domain.specs import JobSpec
from windlass_pipelines.train.result import AttemptFencedError, StoppedError, TrainingError

Newest = Callable[[RecordingReporter], ResumePoint]
SERIES = ("train_loss", "grad_norm", "learning_rate", "eval_loss")
TRAINING = {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "checkpoint_every_steps": 4, "eval_every_steps": 3}
JOBS = {
    # dropout depends on the random numbers
    "lora": job_spec(training=TRAINING, method={"type": "lora", "rank": 4, "dropout": 0.2}),
    "full": job_spec(training=TRAINING | {"gradient_accumulation": 2, "schedule": "cosine"}, method={"type": "full"}),
    "head-only": job_spec(training=TRAINING, method={"type": "head-only"}),
    "chat": job_spec("chat", training=TRAINING | {"packing": True, "batch_size": 4}, method={"type": "lora"}),
}


@pytest.fixture(params=JOBS)
def spec(request: pytest.FixtureRequest) -> JobSpec:
    return JOBS[request.param]


def test_a_preempted_training_resumes_exactly(
    spec: JobSpec, run_for: MakeRun, attempt: Attempt, newest_resume_point: Newest
) -> None:
    environment = run_for(spec)
    uninterrupted = RecordingReporter()
    reference = attempt(moved(environment, "whole"), uninterrupted)

    first = RecordingReporter({5: Command.PREEMPT})
    with pytest.raises(StoppedError, match="preempted"):
        attempt(environment, first)
    assert max(first.series("train_loss")) == first.checkpoints[-1].step == 5
    second = RecordingReporter()
    resumed = attempt(environment, second, 2, resume=newest_resume_point(first))

    assert set(first.series("train_loss")).isdisjoint(second.series("train_loss")), "a step was reported twice"
    for name in SERIES:
        assert first.series(name) | second.series(name) == uninterrupted.series(name)
    folders = (artifact_folder(moved(environment, "whole")), artifact_folder(environment, 2))
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert reference.evaluation == resumed.evaluation


def test_a_killed_training_repeats_only_steps_after_its_checkpoint(
    run_for: MakeRun, attempt: Attempt, newest_resume_point: Newest
) -> None:
    environment = run_for(JOBS["lora"])
    first = RecordingReporter(fenced_at=7)
    with pytest.raises(AttemptFencedError):
        attempt(environment, first)
    assert first.checkpoints[-1].step == 4
    second = RecordingReporter()
    attempt(environment, second, 2, resume=newest_resume_point(first))
    assert min(second.series("train_loss")) == 5
    repeated = {
        step: value for step, value in second.series("train_loss").items() if step in first.series("train_loss")
    }
    assert repeated == {step: value for step, value in first.series("train_loss").items() if step > 4}


def test_a_training_resumes_from_an_unreported_checkpoint_and_reports_its_earlier_metrics(
    run_for: MakeRun, attempt: Attempt
) -> None:
    environment = run_for(JOBS["lora"])
    first, second, uninterrupted = RecordingReporter(fenced_at=7), RecordingReporter(), RecordingReporter()
    with pytest.raises(AttemptFencedError):
        attempt(environment, first)
    attempt(environment, second, 2, resume=None)
    assert dict(second.events)["training_resumed"]["step"] == 4
    attempt(moved(environment, "whole"), uninterrupted)
    for name in SERIES:
        assert second.series(name) == uninterrupted.series(name)


def test_a_training_lost_after_its_last_step_is_evaluated_and_written_again(
    spec: JobSpec, run_for: MakeRun, attempt: Attempt, newest_resume_point: Newest
) -> None:
    environment = run_for(spec)
    first = RecordingReporter()
    reference = attempt(environment, first)
    assert first.checkpoints[-1].step == max(first.series("train_loss"))
    second = RecordingReporter()
    resumed = attempt(environment, second, 2, resume=newest_resume_point(first))
    assert second.series("train_loss") == {}
    assert resumed.evaluation == reference.evaluation
    assert second.codes()[0] == "training_resumed"


def test_early_stopping_continues_its_count_after_a_resume(
    run_for: MakeRun, attempt: Attempt, newest_resume_point: Newest
) -> None:
    # no validation improves by min_delta after the first one, so training stops at the third
    rule = {"patience": 2, "min_delta": 100.0}
    training = TRAINING | {"early_stopping": rule, "eval_every_steps": 2, "epochs": 50}
    environment = run_for(job_spec(training=training))
    first = RecordingReporter({3: Command.PREEMPT})
    with pytest.raises(StoppedError):
        attempt(environment, first)
    second = RecordingReporter()
    attempt(environment, second, 2, resume=newest_resume_point(first))
    assert max(second.series("train_loss")) == 6
    assert dict(second.events)["training_finished"] == {"step": 6, "stopped_early": True}


def test_the_duration_of_previous_attempts_counts(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training=TRAINING, max_duration_seconds=100))
    with pytest.raises(TrainingError) as error_info:
        attempt(environment, RecordingReporter(), trained_seconds=101.0)
    assert error_info.value.code == "max_duration_exceeded"


def test_a_cancelled_training_stops_without_a_checkpoint(run_for: MakeRun, attempt: Attempt) -> None:
    reporter = RecordingReporter({2: Command.CANCEL})
    with pytest.raises(StoppedError, match="cancelled"):
        attempt(run_for(JOBS["lora"]), reporter)
    assert reporter.checkpoints == []
    assert max(reporter.series("train_loss")) == 2


def test_a_cancel_after_the_last_step_leaves_no_artifact(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(JOBS["lora"])
    reporter = RecordingReporter()

    def cancel_when_evaluated(code: str, message: str, **context: object) -> None:
        if code == "evaluation_finished":
            reporter._at[0] = Command.CANCEL

    reporter.event = cancel_when_evaluated  # type: ignore[method-assign]  # injects a cancel
    with pytest.raises(StoppedError, match="cancelled"):
        attempt(environment, reporter)
    assert not (store_folder(environment) / "artifacts").exists()


def test_checkpoints_contain_no_pickle(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(JOBS["lora"])
    attempt(environment, RecordingReporter())
    files = [path for path in (store_folder(environment) / "checkpoints").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".safetensors":
            load_file(path)
        else:
            assert path.name == "COMMITTED"
