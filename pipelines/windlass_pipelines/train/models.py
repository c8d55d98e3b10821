"""Loads models and tokenizers from verified local folders: safetensors only, no code, no network."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from windlass_pipelines.train.outcome import TrainingError

os.environ.setdefault("HF_HUB_OFFLINE", "1")
disable_progress_bar()  # it would fill the logs
set_verbosity_error()  # it warns of every new head, which is what is wanted here
_SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_tokenizer(folder: Path) -> Any:
    """Return the folder's fast tokenizer; one without a padding token pads with its end token.

    Raises:
        TrainingError: ``base_model_unusable``.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **_SAFE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError("base_model_unusable", f"the tokenizer cannot be loaded: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_classifier(folder: Path, labels: tuple[str, ...]) -> nn.Module:
    """Return an encoder with a classification head, in fp32; the head is new when the folder has none for ``labels``.

    Raises:
        TrainingError: ``base_model_unusable``.
    """
    names = dict(enumerate(labels))
    options = {"num_labels": len(labels), "id2label": names, "label2id": {name: i for i, name in names.items()}}
    return _load(AutoModelForSequenceClassification, folder, ignore_mismatched_sizes=True, **options)


def load_causal_lm(folder: Path) -> nn.Module:
    """Return a causal language model in fp32.

    Raises:
        TrainingError: ``base_model_unusable``.
    """
    return _load(AutoModelForCausalLM, folder)


def _load(kind: Any, folder: Path, **options: Any) -> nn.Module:
    try:
        model: nn.Module = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **_SAFE, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError("base_model_unusable", f"the base model cannot be loaded: {error}") from error
    return model
