"""Tiny artifacts in the trainer's format, with random weights and a byte-level tokenizer."""

import json
from pathlib import Path

import torch
from tests.factories.served_apps import make_served_app
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from windlass.domain.artifacts import MANIFEST_NAME, manifest_of
from windlass.domain.endpoints import ServedApp
from windlass.domain.specs import Task

LABELS = ("negative", "neutral", "positive")
MAX_LENGTH = 32
CONTEXT = 256
END_OF_TURN = "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte, so that non-ASCII characters span several tokens."""
    special = ["<pad>", "<|im_start|>", END_OF_TURN, "[CLS]", "[SEP]"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate([*special, *alphabet])}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token=END_OF_TURN,
        cls_token="[CLS]",
        sep_token="[SEP]",
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
    )


def write_classifier(folder: Path, seed: int = 0) -> Path:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", tokenizer.cls_token_id), ("[SEP]", tokenizer.sep_token_id)],
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.5,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return _finish(folder, tokenizer, Task.TEXT_CLASSIFICATION, LABELS)


def write_chat(folder: Path, seed: int = 0, context: int = CONTEXT) -> Path:
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = context
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=context,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return _finish(folder, tokenizer, Task.CHAT, ())


def seal(folder: Path) -> str:
    """Rewrite the manifest and return its digest."""
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    manifest = manifest_of(folder)
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return manifest.digest()


def served_app(key: str, folder: Path, task: Task, digest: str | None = None, **changes: object) -> ServedApp:
    own = {
        "task": task,
        "artifact_uri": folder.as_uri(),
        "digest": digest or seal(folder),
        "model_name": f"{key}-model",
    }
    return make_served_app(key, **own | changes)


def _finish(folder: Path, tokenizer: PreTrainedTokenizerFast, task: Task, labels: tuple[str, ...]) -> Path:
    tokenizer.save_pretrained(folder)
    metadata = {"format": 1, "task": task, "labels": labels, "max_length": MAX_LENGTH}
    (folder / "windlass.json").write_text(json.dumps(metadata), encoding="utf-8")
    seal(folder)
    return folder
