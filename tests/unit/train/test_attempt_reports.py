"""What an attempt reports about its rows, its weights and its quality."""

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.factories.tiny_models import seal_folder
from tests.factories.training_runs import artifact_folder, chat_rows, job_spec, store_folder
from tests.fakes.recording_reporter import RecordingReporter
from tests.unit.train.conftest import Attempt, MakeRun

from windlass.domain.reports import JobWarning, PhaseSeconds, PhasesItem
from windlass.domain.training_report import TrainingReport, parse_report

FAST = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}


def write_rows(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seal_folder(folder)


def long_question(row: dict[str, Any]) -> dict[str, Any]:
    question, answer = row["messages"]
    return {"messages": [question | {"content": "screen " * 200}, answer]}


def test_rows_without_an_answer_within_max_length_are_dropped_and_counted(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec("chat", training=FAST | {"max_length": 64}))
    folder = store_folder(environment) / "data/rows"
    rows = chat_rows(18)
    write_rows(folder, "train", [long_question(row) for row in rows[:14]] + rows[14:])
    write_rows(folder, "validation", [*chat_rows(1, 50), *map(long_question, chat_rows(3, 60))])
    reporter = RecordingReporter()
    result = attempt(environment, reporter)
    assert result.evaluation is not None
    assert result.evaluation["rows"] == 1
    assert result.evaluation["rows_dropped"] == {"train": 14, "validation": 3}
    assert dict(reporter.events)["training_started"]["rows"] == 4
    assert reporter.series("rows_dropped_train") == {0: 14}
    page = (artifact_folder(environment) / "report.html").read_text()
    assert "4 rows of" in page
    assert "no answer begins within 64 tokens: 14 rows of train" in page


def test_the_phases_are_reported_before_each_checkpoint_and_cover_the_attempt(
    run_for: MakeRun, attempt: Attempt
) -> None:
    begun = time.monotonic()
    reporter = RecordingReporter()
    attempt(run_for(job_spec(training=FAST | {"checkpoint_every_steps": 4})), reporter)
    passed = time.monotonic() - begun
    kinds = [item.type for item in reporter.items]
    checkpoints = [index for index, kind in enumerate(kinds) if kind == "checkpoint"]
    assert len(checkpoints) > 1
    assert all(kinds[index - 1] == "phases" for index in checkpoints)
    reported = [item.seconds for item in reporter.items if isinstance(item, PhasesItem)]
    for name in PhaseSeconds.model_fields:
        values = [getattr(seconds, name) for seconds in reported]
        assert values == sorted(values)
        assert values[-1] > 0, name
    assert sum(reported[-1].model_dump().values()) <= passed


def test_a_prompt_that_leaves_no_room_for_an_answer_is_not_answered(run_for: MakeRun, attempt: Attempt) -> None:
    # the model has 256 positions; the second turn's prompt fits max_length but not together with the answer
    spec = job_spec("chat", training=FAST | {"max_length": 250}, evaluation={"max_new_tokens": 100})
    environment = run_for(spec)
    question, answer = chat_rows(1)[0]["messages"]
    long_chat = {"messages": [question, answer, {"role": "user", "content": "screen " * 60}, answer]}
    write_rows(store_folder(environment) / "data/rows", "validation", [*chat_rows(3, 50), long_chat])
    result = attempt(environment, RecordingReporter())
    assert result.evaluation is not None
    assert (result.evaluation["rows"], result.evaluation["rows_unanswered"]) == (4, 1)
    assert len(result.evaluation["samples"]) == 3


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_of_the_best_evaluation_are_registered(run_for: MakeRun, attempt: Attempt, keep: str) -> None:
    # a learning rate at which the loss on other labels rises: the validation labels contradict the training labels
    training = FAST | {"epochs": 10, "keep": keep, "eval_every_steps": 6}
    environment = run_for(job_spec("chat", training=training, method={"type": "full"}))
    folder = store_folder(environment) / "data/rows"
    rows = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    for row in rows:
        row["messages"][1]["content"] = "broke broke awful"
    write_rows(folder, "validation", rows)
    reporter = RecordingReporter()
    result = attempt(environment, reporter)
    losses = reporter.series("eval_loss")
    assert min(losses.values()) < losses[max(losses)] - 0.01, losses
    assert result.evaluation is not None
    expected = min(losses.values()) if keep == "best" else losses[max(losses)]
    assert result.evaluation["eval_loss"] == pytest.approx(expected, abs=1e-4)


def test_an_evaluation_on_training_rows_is_not_called_held_out(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training=FAST))
    folder = store_folder(environment) / "data/rows"
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    write_rows(folder, "validation", rows)
    result = attempt(environment, RecordingReporter())
    assert result.evaluation is not None
    assert result.evaluation["also_trained_on"] == len(rows)
    artifact = artifact_folder(environment)
    for name in ("report.html", "README.md"):
        text = (artifact / name).read_text()
        assert ", the rows it was trained on" in text
        assert "eld-out" not in text


def test_licence_baselines_and_settings_reach_report_card_and_provenance(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training={"epochs": 1}))
    inputs = environment.context.inputs.model_copy(update={"base_model_licence": "Apache-2.0"})
    environment = replace(environment, context=environment.context.model_copy(update={"inputs": inputs}))
    result = attempt(environment, RecordingReporter())
    artifact = artifact_folder(environment)
    assert "license: apache-2.0" in (artifact / "README.md").read_text()
    assert "Apache-2.0" in (artifact / "report.html").read_text()
    provenance = json.loads((artifact / "windlass.json").read_bytes())
    assert provenance["licence"] == "Apache-2.0"
    assert (provenance["training"]["batch_size"], provenance["training"]["learning_rate"]) == (16, 5e-4)
    assert result.evaluation is not None
    assert set(result.evaluation["baselines"]) == {"majority_class", "tfidf_logistic_regression"}
    assert "TF-IDF and logistic regression" in (artifact / "report.html").read_text()


def test_a_collapsed_model_is_registered_with_a_warning(run_for: MakeRun, attempt: Attempt) -> None:
    reporter = RecordingReporter()
    # a step size at which nothing is learned
    result = attempt(run_for(job_spec(training=FAST | {"learning_rate": 1e-12})), reporter)
    assert "model_collapsed" in reporter.codes()
    assert "model_collapsed" in [warning.code for warning in result.warnings]


def test_rows_without_a_label_are_skipped_and_never_a_class(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training={"epochs": 1}))
    folder = store_folder(environment) / "data/rows"
    for split in ("train", "validation"):
        rows = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        write_rows(folder, split, [*rows, {"text": "no label", "label": None}, {"text": " ", "label": "strange"}])
    reporter = RecordingReporter()
    result = attempt(environment, reporter)
    artifact = artifact_folder(environment)
    assert json.loads((artifact / "config.json").read_bytes())["id2label"] == {"0": "negative", "1": "positive"}
    assert result.evaluation is not None
    assert result.evaluation["confusion_matrix"]["labels"] == ["negative", "positive"]
    assert result.evaluation["rows_skipped"] == {"train": 2, "validation": 2}
    assert dict(reporter.events)["training_started"]["rows"] == 48
    for name in ("report.html", "README.md"):
        text = (artifact / name).read_text()
        assert "the text, the label or an answer is missing: 2 rows of train, 2 rows of validation" in text


def test_conversations_with_an_empty_answer_are_skipped(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec("chat", training=FAST))
    folder = store_folder(environment) / "data/rows"
    question, answer = chat_rows(1)[0]["messages"]
    write_rows(folder, "train", [*chat_rows(12), {"messages": [question, answer | {"content": ""}]}])
    reporter = RecordingReporter()
    result = attempt(environment, reporter)
    assert result.evaluation is not None
    assert result.evaluation["rows_skipped"] == {"train": 1}
    assert dict(reporter.events)["training_started"]["rows"] == 12


def test_an_answer_of_weight_0_is_neither_learned_nor_evaluated(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec("chat", training=FAST))
    question, answer = chat_rows(1)[0]["messages"]
    ignored = {"role": "assistant", "content": "awful", "weight": 0}
    rows = [{"messages": [question, answer, question, ignored]}, *chat_rows(3, 50)]
    write_rows(store_folder(environment) / "data/rows", "validation", rows)
    result = attempt(environment, RecordingReporter())
    assert result.evaluation is not None
    assert result.evaluation["samples"][0]["expected"] == answer["content"]


def test_truncated_rows_are_reported_before_the_training(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training={"epochs": 1, "max_length": 8}))
    reporter = RecordingReporter()
    result = attempt(environment, reporter)
    codes = reporter.codes()
    assert codes.index("rows_truncated") < codes.index("training_started")
    rows = dict(reporter.events)["rows_truncated"]["rows"]
    assert isinstance(rows, int)
    assert rows > 0
    [warning] = [warning for warning in result.warnings if warning.code == "rows_truncated"]
    assert warning.context == {"rows": rows, "max_length": 8}


def test_the_report_has_the_warnings_of_the_dataset_and_of_the_training(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training={"epochs": 1, "max_length": 8}))
    unused = JobWarning(code="columns_unused", message="unused columns: stars")
    inputs = environment.context.inputs.model_copy(update={"warnings": (unused,)})
    environment = replace(environment, context=environment.context.model_copy(update={"inputs": inputs}))
    result = attempt(environment, RecordingReporter())
    assert unused not in result.warnings
    artifact = artifact_folder(environment)
    assert parse_report((artifact / "report.json").read_bytes()).warnings == (unused, *result.warnings)
    for name in ("report.html", "README.md"):
        assert "unused columns: stars" in (artifact / name).read_text()


def test_a_model_without_report_is_registered_with_a_warning(
    run_for: MakeRun, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(report: TrainingReport) -> str:
        raise ValueError("no card")

    monkeypatch.setattr("windlass_pipelines.report.model_card.render", fail)
    environment = run_for(job_spec(training={"epochs": 1}))
    result = attempt(environment, RecordingReporter())
    assert "report_not_written" in [warning.code for warning in result.warnings]
    assert {"report.html", "report.json", "README.md"}.isdisjoint(
        path.name for path in artifact_folder(environment).iterdir()
    )


def test_the_log_follows_the_training(run_for: MakeRun, attempt: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "windlass_pipelines")
    attempt(run_for(job_spec("chat", training=FAST | {"eval_every_steps": 2})), RecordingReporter())
    lines = [record.getMessage() for record in caplog.records if record.name == "windlass_pipelines.train.trainer"]
    steps = [line for line in lines if line.startswith("step ")]
    total = steps[-1].split(":")[0].rpartition(" ")[2]
    assert steps[-1].startswith(f"step {total} of {total}: train_loss=")
    assert all("learning_rate=" in line and "tokens_per_second=" in line for line in steps)
    assert next(line.split(":")[0] for line in lines if line.startswith("evaluation")) == "evaluation at step 2"
    assert lines.index(steps[-1]) < len(lines) - 1, "the last evaluation follows the last step"
