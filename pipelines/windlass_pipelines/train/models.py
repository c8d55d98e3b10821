"""Loads models and tokenizers from verified local folders: safetensors only, no remote code, no network."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from windlass_pipelines.train.pooling import add_mean_pooling, needs_mean_pooling
from windlass_pipelines.train.result import TrainingError

os.environ.setdefault("HF_HUB_OFFLINE", "1")
disable_progress_bar()  # keeps progress bars out of the logs
set_verbosity_error()  # no warning about a newly initialized head, which is intended here
_UNBOUNDED = 10**9
"""Tokenizers without a maximum length report a number far above this one."""
_LOAD_OPTIONS: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_tokenizer(folder: Path) -> Any:
    """Return the folder's fast tokenizer; without a padding token it pads with the end-of-sequence token.

    Raises:
        TrainingError: ``base_model_unusable``.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **_LOAD_OPTIONS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError("base_model_unusable", f"the tokenizer cannot be loaded: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def max_positions(model: nn.Module, tokenizer: Any) -> int | None:
    """Return the longest input in tokens, or None without a limit.

    It is the smaller of the model's number of positions and the tokenizer's declared maximum. RoBERTa models number
    positions from ``padding_idx + 1``, so that many rows of their position table are not used.
    """
    limits = [getattr(model.config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    return min((int(limit) for limit in limits if limit and limit < _UNBOUNDED), default=None)


def activations_per_token(model: nn.Module) -> int:
    """Return how many values per token the linear layers save for a backward pass, at least.

    A linear layer saves its input. Siblings, such as query, key and value, may share theirs, so only the widest of each
    module counts. Not counted: modules outside the layers, which may see one token only (the pooler); and those in
    nested lists, such as experts, which may see a part of the tokens.
    """
    widest: dict[str, int] = {}
    for name, module in model.named_modules():
        width = module.weight.shape[0] if isinstance(module, Conv1D) else getattr(module, "in_features", 0)
        if width and sum(part.isdigit() for part in name.split(".")) == 1:
            parent = name.rpartition(".")[0]
            widest[parent] = max(widest.get(parent, 0), width)
    return sum(widest.values())


def load_classifier(folder: Path, labels: tuple[str, ...]) -> nn.Module:
    """Return an encoder with a classification head, in fp32; one that does not fit ``labels`` is reinitialized.

    Where the encoder has no trained pooler, the head reads the mean of all tokens (see ``pooling``).

    Raises:
        TrainingError: ``base_model_unusable``.
    """
    names = dict(enumerate(labels))
    options = {"num_labels": len(labels), "id2label": names, "label2id": {name: i for i, name in names.items()}}
    config = load_config(folder)
    mean = needs_mean_pooling(folder, config)
    if mean:
        options["num_hidden_layers"] = config.num_hidden_layers + 1
    model = _load(AutoModelForSequenceClassification, folder, ignore_mismatched_sizes=True, **options)
    if mean:
        add_mean_pooling(model)
    return model


def load_config(folder: Path) -> Any:
    """Return the model's configuration.

    Raises:
        TrainingError: ``base_model_unusable``.
    """
    try:
        return AutoConfig.from_pretrained(folder, **_LOAD_OPTIONS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError("base_model_unusable", f"config.json cannot be loaded: {error}") from error


def load_causal_lm(folder: Path) -> nn.Module:
    """Return a causal language model in fp32.

    Raises:
        TrainingError: ``base_model_unusable``.
    """
    return _load(AutoModelForCausalLM, folder)


def _load(kind: Any, folder: Path, **options: Any) -> nn.Module:
    try:
        model: nn.Module = kind.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, **_LOAD_OPTIONS, **options
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError("base_model_unusable", f"the base model cannot be loaded: {error}") from error
    return model
