"""Whole attempts on tiny models: what is learned, what is written, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.factories.tiny_models import seal_folder
from tests.factories.training_runs import job_spec
from tests.fakes.voice import RecordingVoice
from tests.unit.train.conftest import Attempt, MakeRun
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from windlass.runtime.artifacts import read_manifest, verify
from windlass_pipelines.train.outcome import TrainingError

LEARN = {"epochs": 20, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}
ALLOWED = {".safetensors", ".json", ".jinja", ".txt", ".html", ".md"}


@pytest.mark.parametrize(("method", "rate"), [({"type": "full"}, 1e-2), ({"type": "lora", "rank": 8}, 3e-3)])
def test_a_classifier_learns_its_rows_and_stands_alone(
    run_for: MakeRun, attempt: Attempt, method: dict[str, Any], rate: float
) -> None:
    context = run_for(job_spec(training=LEARN | {"epochs": 40, "learning_rate": rate}, method=method))
    ended = attempt(context, RecordingVoice())
    assert ended.evaluation is not None
    assert ended.evaluation["accuracy"] == 1.0
    folder = context.store_root / str(ended.artifact_prefix)
    assert ended.manifest == read_manifest(folder)
    verify(folder, read_manifest(folder))
    assert {path.suffix for path in folder.iterdir()} <= ALLOWED
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    logits = model(**tokenizer(["the price is awful", "the price is great"], padding=True, return_tensors="pt")).logits
    assert [model.config.id2label[i] for i in logits.argmax(1).tolist()] == ["negative", "positive"]


def test_what_is_evaluated_is_what_was_saved(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(training=LEARN | {"epochs": 4}))
    ended = attempt(context, RecordingVoice())
    folder = context.store_root / str(ended.artifact_prefix)
    rows = [json.loads(line) for line in (context.store_root / "data/rows/validation.jsonl").read_text().splitlines()]
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")).logits
    truth = torch.tensor([model.config.label2id[row["label"]] for row in rows])
    assert ended.evaluation is not None
    assert ended.evaluation["eval_loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, truth).item(), abs=1e-5
    )
    assert json.loads((folder / "evaluation.json").read_bytes()) == ended.evaluation


def test_provenance_is_in_the_artifact_and_no_code(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(training=LEARN | {"epochs": 1}))
    ended = attempt(context, RecordingVoice())
    folder = context.store_root / str(ended.artifact_prefix)
    facts = json.loads((folder / "windlass.json").read_bytes())
    assert facts["task"] == "text-classification"
    assert facts["labels"] == ["negative", "positive"]
    assert facts["dataset_version"] == context.dataset_version
    assert {"torch", "transformers", "ray", "windlass"} <= facts["environment"].keys()
    assert "auto_map" not in json.loads((folder / "config.json").read_bytes())
    assert (folder / "report.html").stat().st_size > 1000
    assert (folder / "README.md").read_text().startswith("---")


def test_the_body_of_a_frozen_body_stays_as_it_was(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(training=LEARN | {"epochs": 2}, method={"type": "frozen-body"}))
    ended = attempt(context, RecordingVoice())
    base = load_file(context.store_root / "base/tiny/model.safetensors")
    tuned = load_file(context.store_root / str(ended.artifact_prefix) / "model.safetensors")
    for name, weight in base.items():
        assert tuned[f"bert.{name}"].equal(weight), name


def test_lora_merges_into_every_linear_layer_and_nothing_else(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(training=LEARN | {"epochs": 2}))
    ended = attempt(context, RecordingVoice())
    base = load_file(context.store_root / "base/tiny/model.safetensors")
    tuned = load_file(context.store_root / str(ended.artifact_prefix) / "model.safetensors")
    changed = {name for name, weight in base.items() if not tuned[f"bert.{name}"].equal(weight)}
    linear = {name for name in base if name.endswith(("query.weight", "key.weight", "value.weight", "dense.weight"))}
    assert changed == linear


@pytest.mark.parametrize("packing", [False, True])
def test_a_chat_model_learns_to_answer_exactly(run_for: MakeRun, attempt: Attempt, packing: bool) -> None:
    training = {"epochs": 50, "batch_size": 4, "learning_rate": 1e-2, "packing": packing, "eval_every_steps": 100}
    context = run_for(job_spec("chat", training=training, method={"type": "full"}))
    ended = attempt(context, RecordingVoice())
    assert ended.evaluation is not None
    assert ended.evaluation["exact_answer_rate"] == 1.0
    assert ended.evaluation["before"]["exact_answer_rate"] == 0.0
    assert 1.0 <= ended.evaluation["perplexity"] < 1.2
    folder = context.store_root / str(ended.artifact_prefix)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "is the sound great?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=32)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "the sound works works fine"
    assert answer[-1] == tokenizer.eos_token_id


def test_metrics_of_every_step_are_told(run_for: MakeRun, attempt: Attempt) -> None:
    voice = RecordingVoice()
    attempt(run_for(job_spec(training=LEARN | {"epochs": 2})), voice)
    for name in ("train_loss", "grad_norm", "learning_rate"):
        assert sorted(voice.series(name)) == list(range(1, 13))
    assert sorted(voice.series("eval_loss")) == sorted(voice.series("eval_weighted_f1")) == [6, 12]
    assert all(value > 0 for value in voice.series("tokens_per_second").values())
    assert voice.codes() == ["training_started", "training_finished", "evaluation_finished"]


def test_gradient_accumulation_changes_the_memory_and_not_the_mathematics(run_for: MakeRun, attempt: Attempt) -> None:
    losses = []
    for parts in (1, 4):
        voice = RecordingVoice()
        spec = job_spec(training=LEARN | {"epochs": 2, "gradient_accumulation": parts}, method={"type": "lora"})
        context = run_for(spec).model_copy(update={"checkpoint_prefix": f"c/{parts}", "artifact_prefix": f"a/{parts}"})
        config = json.loads((context.store_root / "base/tiny/config.json").read_bytes())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (context.store_root / "base/tiny/config.json").write_text(json.dumps(config))
        seal_folder(context.store_root / "base/tiny")
        attempt(context, voice)
        losses.append(list(voice.series("train_loss").values()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_bf16_trains_and_keeps_the_weights_in_fp32(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(training=LEARN | {"precision": "bf16"}, method={"type": "full"}))
    ended = attempt(context, RecordingVoice())
    tuned = load_file(context.store_root / str(ended.artifact_prefix) / "model.safetensors")
    assert {weight.dtype for weight in tuned.values()} == {torch.float32}
    assert ended.evaluation is not None
    assert ended.evaluation["accuracy"] >= 0.75


def test_a_loss_that_is_no_number_fails_with_a_hint(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(training=LEARN | {"learning_rate": 1.0, "max_grad_norm": 1e30}, method={"type": "full"}))
    weights = context.store_root / "base/tiny/model.safetensors"
    tensors = load_file(weights)
    tensors["embeddings.LayerNorm.weight"].fill_(float("nan"))
    from safetensors.torch import save_file

    save_file(tensors, weights)
    seal_folder(context.store_root / "base/tiny")
    with pytest.raises(TrainingError) as failed:
        attempt(context, RecordingVoice())
    assert failed.value.code == "loss_not_finite"
    assert "learning rate" in failed.value.message


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
def test_data_that_cannot_be_trained_on_is_named(
    run_for: MakeRun, attempt: Attempt, code: str, split: str, change: Callable[[Any], Any]
) -> None:
    context = run_for(job_spec())
    rewrite(context.store_root / f"data/rows/{split}.jsonl", change)
    with pytest.raises(TrainingError) as failed:
        attempt(context, RecordingVoice())
    assert failed.value.code == code


@pytest.mark.parametrize("path", ["data/rows/train.jsonl", "base/tiny/model.safetensors"])
def test_input_that_is_not_what_its_manifest_says_is_not_trained_on(
    run_for: MakeRun, attempt: Attempt, path: str
) -> None:
    context = run_for(job_spec())
    with (context.store_root / path).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(TrainingError) as failed:
        attempt(context, RecordingVoice())
    assert failed.value.code == "input_damaged"


def test_lora_on_layers_that_are_not_there_is_refused(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(method={"type": "lora", "target_modules": ["no_such_layer"]}))
    with pytest.raises(TrainingError) as failed:
        attempt(context, RecordingVoice())
    assert failed.value.code == "method_unsuitable"


def test_the_result_is_judged_on_the_test_split_where_there_is_one(run_for: MakeRun, attempt: Attempt) -> None:
    context = run_for(job_spec(training=LEARN | {"epochs": 1}))
    data = context.store_root / "data/rows"
    (data / "test.jsonl").write_text((data / "validation.jsonl").read_text() * 2)
    seal_folder(data)
    ended = attempt(context, RecordingVoice())
    assert ended.evaluation is not None
    assert (ended.evaluation["split"], ended.evaluation["rows"]) == ("test", 24)
