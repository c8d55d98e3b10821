"""Complete attempts on tiny models: training results, artifacts and rejected inputs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.factories.learning_jobs import CHATS, CLASSIFIERS, LearningJob
from tests.factories.tiny_models import seal_folder
from tests.factories.training_runs import artifact_folder, job_spec, moved, store_folder
from tests.fakes.recording_reporter import RecordingReporter
from tests.unit.train.conftest import Attempt, MakeRun
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from windlass.domain.training_report import parse_report
from windlass.runtime.artifacts import verify
from windlass_pipelines.train.result import TrainingError

LEARN = {"epochs": 20, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}
ALLOWED = {".safetensors", ".json", ".jinja", ".txt", ".html", ".md"}


@pytest.mark.parametrize("job", CLASSIFIERS, ids=lambda job: job.name)
def test_a_classifier_fits_its_rows_and_loads_with_transformers(
    run_for: MakeRun, attempt: Attempt, job: LearningJob
) -> None:
    environment = run_for(job.spec())
    result = attempt(environment, RecordingReporter())
    assert result.evaluation is not None
    assert min(job.margins(result.evaluation).values()) >= 0, result.evaluation
    folder = artifact_folder(environment)
    assert result.manifest == verify(folder)
    assert {path.suffix for path in folder.iterdir()} <= ALLOWED
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    logits = model(**tokenizer(["the price is awful", "the price is great"], padding=True, return_tensors="pt")).logits
    assert [model.config.id2label[i] for i in logits.argmax(1).tolist()] == ["negative", "positive"]


def test_the_evaluation_matches_the_saved_model(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training=LEARN | {"epochs": 4}))
    result = attempt(environment, RecordingReporter())
    folder = artifact_folder(environment)
    rows = [
        json.loads(line) for line in (store_folder(environment) / "data/rows/validation.jsonl").read_text().splitlines()
    ]
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")).logits
    truth = torch.tensor([model.config.label2id[row["label"]] for row in rows])
    assert result.evaluation is not None
    assert result.evaluation["eval_loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, truth).item(), abs=1e-5
    )
    report = parse_report((folder / "report.json").read_bytes())
    assert report.evaluation.items() <= result.evaluation.items()
    assert report.curves["eval_loss"][-1][1] == pytest.approx(report.evaluation["eval_loss"], abs=1e-5)


def test_the_artifact_has_provenance_and_no_code(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training=LEARN | {"epochs": 1}))
    attempt(environment, RecordingReporter())
    folder = artifact_folder(environment)
    facts = json.loads((folder / "windlass.json").read_bytes())
    assert facts["task"] == "text-classification"
    assert facts["labels"] == ["negative", "positive"]
    assert facts["dataset_version"] == environment.context.inputs.dataset_version
    assert {"torch", "transformers", "ray", "windlass"} <= facts["environment"].keys()
    assert "auto_map" not in json.loads((folder / "config.json").read_bytes())
    assert (folder / "report.html").stat().st_size > 1000
    assert (folder / "README.md").read_text().startswith("---")


def test_head_only_training_leaves_the_encoder_unchanged(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training=LEARN | {"epochs": 2}, method={"type": "head-only"}))
    attempt(environment, RecordingReporter())
    base = load_file(store_folder(environment) / "base/tiny/model.safetensors")
    tuned = load_file(artifact_folder(environment) / "model.safetensors")
    for name, weight in base.items():
        assert name.startswith("pooler.") or tuned[f"bert.{name}"].equal(weight), name


def test_lora_merges_into_every_linear_layer_and_nothing_else(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training=LEARN | {"epochs": 2}))
    attempt(environment, RecordingReporter())
    base = load_file(store_folder(environment) / "base/tiny/model.safetensors")
    tuned = load_file(artifact_folder(environment) / "model.safetensors")
    encoder = {name: weight for name, weight in base.items() if not name.startswith("pooler.")}
    changed = {name for name, weight in encoder.items() if not tuned[f"bert.{name}"].equal(weight)}
    linear = {name for name in encoder if name.endswith(("query.weight", "key.weight", "value.weight", "dense.weight"))}
    assert changed == linear


@pytest.mark.parametrize("job", CHATS, ids=lambda job: job.name)
def test_a_chat_model_learns_to_answer_exactly(run_for: MakeRun, attempt: Attempt, job: LearningJob) -> None:
    environment = run_for(job.spec())
    result = attempt(environment, RecordingReporter())
    assert result.evaluation is not None
    assert min(job.margins(result.evaluation).values()) >= 0, result.evaluation
    assert result.evaluation["before"]["exact_answer_rate"] == 0.0
    assert result.evaluation["perplexity"] >= 1.0
    folder = artifact_folder(environment)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "is the sound great?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=32)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "the sound works works fine"
    assert answer[-1] == tokenizer.eos_token_id


def test_metrics_of_every_step_are_reported(run_for: MakeRun, attempt: Attempt) -> None:
    reporter = RecordingReporter()
    attempt(run_for(job_spec(training=LEARN | {"epochs": 2})), reporter)
    for name in ("train_loss", "grad_norm", "learning_rate"):
        assert sorted(reporter.series(name)) == list(range(1, 13))
    assert sorted(reporter.series("eval_loss")) == sorted(reporter.series("eval_weighted_f1")) == [6, 12]
    assert all(value > 0 for value in reporter.series("tokens_per_second").values())
    assert reporter.codes()[:3] == ["training_started", "training_finished", "evaluation_finished"]


def test_gradient_accumulation_does_not_change_the_losses(run_for: MakeRun, attempt: Attempt) -> None:
    losses = []
    for parts in (1, 4):
        reporter = RecordingReporter()
        spec = job_spec(training=LEARN | {"epochs": 2, "gradient_accumulation": parts}, method={"type": "lora"})
        environment = moved(run_for(spec), str(parts))
        config = json.loads((store_folder(environment) / "base/tiny/config.json").read_bytes())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (store_folder(environment) / "base/tiny/config.json").write_text(json.dumps(config))
        seal_folder(store_folder(environment) / "base/tiny")
        attempt(environment, reporter)
        losses.append(list(reporter.series("train_loss").values()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_bf16_trains_and_keeps_the_weights_in_fp32(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training=LEARN | {"precision": "bf16"}, method={"type": "full"}))
    result = attempt(environment, RecordingReporter())
    tuned = load_file(artifact_folder(environment) / "model.safetensors")
    assert {weight.dtype for weight in tuned.values()} == {torch.float32}
    assert result.evaluation is not None
    assert result.evaluation["accuracy"] >= 0.75


def test_a_nan_loss_fails_with_a_hint(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(
        job_spec(training=LEARN | {"learning_rate": 1.0, "max_grad_norm": 1e30}, method={"type": "full"})
    )
    weights = store_folder(environment) / "base/tiny/model.safetensors"
    tensors = load_file(weights)
    tensors["embeddings.LayerNorm.weight"].fill_(float("nan"))
    from safetensors.torch import save_file

    save_file(tensors, weights)
    seal_folder(store_folder(environment) / "base/tiny")
    with pytest.raises(TrainingError) as error_info:
        attempt(environment, RecordingReporter())
    assert error_info.value.code == "loss_not_finite"
    assert "learning rate" in error_info.value.message


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    rows = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seal_folder(path.parent)


@pytest.mark.parametrize(
    ("code", "split", "change"),
    [
        ("unknown_label", "validation", lambda rows: [*rows, {"text": "the price", "label": "mixed"}]),
        ("too_few_labels", "train", lambda rows: [row for row in rows if row["label"] == "positive"]),
        ("no_training_rows", "train", lambda _rows: []),
        ("no_held_out_rows", "validation", lambda _rows: []),
    ],
)
def test_untrainable_data_fails_with_a_specific_code(
    run_for: MakeRun, attempt: Attempt, code: str, split: str, change: Callable[[Any], Any]
) -> None:
    environment = run_for(job_spec())
    rewrite(store_folder(environment) / f"data/rows/{split}.jsonl", change)
    with pytest.raises(TrainingError) as error_info:
        attempt(environment, RecordingReporter())
    assert error_info.value.code == code


@pytest.mark.parametrize("path", ["data/rows/train.jsonl", "base/tiny/model.safetensors"])
def test_input_that_does_not_match_its_manifest_is_rejected(run_for: MakeRun, attempt: Attempt, path: str) -> None:
    environment = run_for(job_spec())
    with (store_folder(environment) / path).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(TrainingError) as error_info:
        attempt(environment, RecordingReporter())
    assert error_info.value.code == "input_damaged"


def test_lora_with_unknown_target_modules_is_rejected(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(method={"type": "lora", "target_modules": ["no_such_layer"]}))
    with pytest.raises(TrainingError) as error_info:
        attempt(environment, RecordingReporter())
    assert error_info.value.code == "method_unsuitable"


def test_the_result_is_evaluated_on_the_test_split_if_present(run_for: MakeRun, attempt: Attempt) -> None:
    environment = run_for(job_spec(training=LEARN | {"epochs": 1}))
    data = store_folder(environment) / "data/rows"
    (data / "test.jsonl").write_text((data / "validation.jsonl").read_text() * 2)
    seal_folder(data)
    result = attempt(environment, RecordingReporter())
    assert result.evaluation is not None
    assert (result.evaluation["split"], result.evaluation["rows"]) == ("test", 24)
