"""Import and inference of the real base models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from windlass.examples import fetch
from windlass.runtime.artifacts import verify
from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.import_model import import_model
from windlass_pipelines.train.tasks.chat import ChatTask
from windlass_pipelines.train.tasks.text_classification import TextClassificationTask

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]
CACHE = Path(__file__).parents[3] / ".cache/models"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both base models, fetched and imported."""
    root = tmp_path_factory.mktemp("models")
    for name in ("minilm-l6", "smollm2-135m"):
        fetch(name, root / "fetched" / name, CACHE, lambda _words: None)
        import_model(root / "fetched" / name, (root / name).as_uri(), root / "work", FileTransfer())
        verify(root / name)
    return root


def test_the_encoder_keeps_its_weights_bit_for_bit(models: Path) -> None:
    before = load_file(next((models / "fetched/minilm-l6").rglob("model.safetensors")))
    after = load_file(models / "minilm-l6/model.safetensors")
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)


def test_the_encoder_embeds_similar_sentences_close_together(models: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in (("a", "x"), ("b", "y"))]
    task = TextClassificationTask.from_rows(models / "minilm-l6", rows, 64)
    sentences = ("the battery dies after an hour", "it does not hold a charge", "the shipping was free and fast")
    examples, _ = task.encode([{"text": text, "label": "x"} for text in sentences])
    batch = task.collate(examples)
    body = task.load(models / "minilm-l6").base_model
    assert isinstance(body, torch.nn.Module)
    body.eval()
    with torch.inference_mode():
        hidden = body(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    near, far = (pooled[0] @ pooled[1]).item(), (pooled[0] @ pooled[2]).item()
    assert near > far + 0.2


def test_the_chat_model_answers_after_gguf_conversion(models: Path) -> None:
    task = ChatTask(models / "smollm2-135m", 128, 24, packing=False)
    model = task.load(models / "smollm2-135m").eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "?"}]}
        for question in ("What is the capital of France?", "Which planet do people live on?")
    ]
    paris, earth = task._generate_answers(model, rows, DistributedContext())
    assert "Paris" in paris
    assert "Earth" in earth


def test_the_targets_are_the_answer_with_the_real_tokenizer_and_template(models: Path) -> None:
    task = ChatTask(models / "smollm2-135m", 128, 8, packing=False)
    messages = [
        {"role": "user", "content": "My webcam isn't detected."},
        {"role": "assistant", "content": "Make sure it\u2019s connected, and wait 10 seconds."},
    ]
    (example,), _ = task.encode([{"messages": messages}])
    learned = task._tokenizer.decode(example.ids[example.targets >= 0])
    assert learned == "Make sure it\u2019s connected, and wait 10 seconds.<|im_end|>"
    whole = task._tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert np.array_equal(example.ids, whole)
