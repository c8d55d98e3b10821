"""A training that is interrupted and resumed is the training that was not interrupted, number by number."""

import json
from collections.abc import Callable

import pytest
from safetensors.torch import load_file
from tests.factories.training_runs import job_spec
from tests.fakes.voice import RecordingVoice
from tests.unit.train.conftest import Attempt, MakeRun

from windlass.domain.reports import Command, ResumePoint
from windlass.domain.specs import JobSpec
from windlass_pipelines.train.outcome import FencedOutError, StoppedError, TrainingError

Newest = Callable[[RecordingVoice], ResumePoint]
SERIES = ("train_loss", "grad_norm", "learning_rate", "eval_loss")
TRAINING = {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "checkpoint_every_steps": 4, "eval_every_steps": 3}
JOBS = {
    # dropout makes the random numbers count
    "lora": job_spec(training=TRAINING, method={"type": "lora", "rank": 4, "dropout": 0.2}),
    "full": job_spec(training=TRAINING | {"gradient_accumulation": 2, "schedule": "cosine"}, method={"type": "full"}),
    "frozen": job_spec(training=TRAINING, method={"type": "frozen-body"}),
    "chat": job_spec("chat", training=TRAINING | {"packing": True, "batch_size": 4}, method={"type": "lora"}),
}


@pytest.fixture(params=JOBS)
def spec(request: pytest.FixtureRequest) -> JobSpec:
    return JOBS[request.param]


def test_a_preempted_training_goes_on_exactly(
    spec: JobSpec, run_for: MakeRun, attempt: Attempt, newest: Newest
) -> None:
    context = run_for(spec)
    whole = RecordingVoice()
    straight = attempt(context.model_copy(update={"artifact_prefix": "a/whole", "checkpoint_prefix": "c/whole"}), whole)

    first = RecordingVoice({5: Command.PREEMPT})
    with pytest.raises(StoppedError, match="preempted"):
        attempt(context, first)
    assert max(first.series("train_loss")) == first.checkpoints[-1].step == 5
    second = RecordingVoice()
    resumed = attempt(context, second, 2, resume=newest(first))

    assert set(first.series("train_loss")).isdisjoint(second.series("train_loss")), "a step was told twice"
    for name in SERIES:
        assert first.series(name) | second.series(name) == whole.series(name)
    weights = [
        load_file(context.store_root / str(end.artifact_prefix) / "model.safetensors") for end in (straight, resumed)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert straight.evaluation == resumed.evaluation


def test_a_killed_training_repeats_only_what_came_after_its_checkpoint(
    run_for: MakeRun, attempt: Attempt, newest: Newest
) -> None:
    context = run_for(JOBS["lora"])
    first = RecordingVoice(fenced_at=7)
    with pytest.raises(FencedOutError):
        attempt(context, first)
    assert first.checkpoints[-1].step == 4
    second = RecordingVoice()
    attempt(context, second, 2, resume=newest(first))
    assert min(second.series("train_loss")) == 5
    again = {step: value for step, value in second.series("train_loss").items() if step in first.series("train_loss")}
    assert again == {step: value for step, value in first.series("train_loss").items() if step > 4}


def test_a_training_goes_on_from_a_checkpoint_that_could_not_be_reported_and_tells_what_led_there(
    run_for: MakeRun, attempt: Attempt
) -> None:
    context = run_for(JOBS["lora"])
    first, second, whole = RecordingVoice(fenced_at=7), RecordingVoice(), RecordingVoice()
    with pytest.raises(FencedOutError):
        attempt(context, first)
    attempt(context, second, 2, resume=None)
    assert dict(second.events)["training_resumed"]["step"] == 4
    attempt(context.model_copy(update={"artifact_prefix": "a/whole", "checkpoint_prefix": "c/whole"}), whole)
    for name in SERIES:
        assert second.series(name) == whole.series(name)


def test_a_training_that_was_lost_after_its_last_step_is_judged_and_written_again(
    spec: JobSpec, run_for: MakeRun, attempt: Attempt, newest: Newest
) -> None:
    context = run_for(spec)
    first = RecordingVoice()
    straight = attempt(context, first)
    assert first.checkpoints[-1].step == max(first.series("train_loss"))
    second = RecordingVoice()
    resumed = attempt(context, second, 2, resume=newest(first))
    assert second.series("train_loss") == {}
    assert resumed.evaluation == straight.evaluation
    assert second.codes()[0] == "training_resumed"


def test_early_stopping_counts_on_after_a_resume(run_for: MakeRun, attempt: Attempt, newest: Newest) -> None:
    # nothing improves by that much after the first evaluation, so it stops at the third one
    rule = {"patience": 2, "min_delta": 100.0}
    training = TRAINING | {"early_stopping": rule, "eval_every_steps": 2, "epochs": 50}
    context = run_for(job_spec(training=training))
    first = RecordingVoice({3: Command.PREEMPT})
    with pytest.raises(StoppedError):
        attempt(context, first)
    second = RecordingVoice()
    attempt(context, second, 2, resume=newest(first))
    assert max(second.series("train_loss")) == 6
    assert dict(second.events)["training_finished"] == {"step": 6, "stopped_early": True}


def test_the_duration_of_earlier_attempts_counts(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(training=TRAINING, max_duration_seconds=100))
    with pytest.raises(TrainingError) as failed:
        attempt(context, RecordingVoice(), trained_seconds=101.0)
    assert failed.value.code == "max_duration_exceeded"


def test_a_cancelled_training_stops_without_a_checkpoint(run_for: MakeRun, attempt: Attempt) -> None:
    voice = RecordingVoice({2: Command.CANCEL})
    with pytest.raises(StoppedError, match="cancelled"):
        attempt(run_for(JOBS["lora"]), voice)
    assert voice.checkpoints == []
    assert max(voice.series("train_loss")) == 2


def test_a_cancel_that_comes_after_the_last_step_leaves_no_artifact(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(JOBS["lora"])
    voice = RecordingVoice()

    def cancel_when_evaluated(code: str, message: str, **facts: object) -> None:
        if code == "evaluation_finished":
            voice._at[0] = Command.CANCEL

    voice.event = cancel_when_evaluated  # type: ignore[method-assign]  # a fault put in by hand
    with pytest.raises(StoppedError, match="cancelled"):
        attempt(context, voice)
    assert not (context.store_root / context.artifact_prefix).exists()


def test_checkpoints_hold_no_pickle(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(JOBS["lora"])
    attempt(context, RecordingVoice())
    files = [path for path in (context.store_root / context.checkpoint_prefix).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ""}
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".safetensors":
            load_file(path)
        else:
            assert path.name == "COMMITTED"
