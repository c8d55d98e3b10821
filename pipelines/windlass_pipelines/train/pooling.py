"""Mean pooling for classifiers, expressed in the standard architecture of the encoder.

Sentence encoders are trained with the mean of their token vectors. The classification heads of BERT and RoBERTa read
only the first token, through a pooler that such encoders ship untrained. One more encoder layer computes the mean at
the first token: with zero queries and keys its attention is uniform over the tokens that are not padding, its value
projection is the identity, and its feed-forward part is zero. The pooler starts as a scaled identity. The result is an
ordinary ``BertForSequenceClassification``: it is trained, exported, loaded and served without code of its own.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from windlass.domain.errors import InvalidError

POOLING_NAME = "pooling.json"
"""File of an imported base model: the ``1_Pooling/config.json`` of sentence-transformers."""
MEAN, OWN_HEAD = "mean of all tokens", "that of the architecture"
"""What a classification head reads."""
_SUPPORTED = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})
"""Model types whose layers normalize after the residual connection and whose head reads the first token."""
_MEAN_SCALE = 1000.0
"""Weight of the mean against the first token's own vector, which the residual connection adds."""
_POOLER_SCALE = 0.5
"""Keeps the normalized vector in the linear part of the pooler's tanh."""


def needs_mean_pooling(folder: Path, config: Any) -> bool:
    """Return whether a classifier on this encoder should read the mean of all tokens instead of the first token.

    A pooling configuration decides. Without one, an encoder published without a task head, or without pooler weights,
    has no trained vector of the first token.
    """
    if config.model_type not in _SUPPORTED:
        return False
    if (folder / POOLING_NAME).exists():
        return bool(json.loads((folder / POOLING_NAME).read_bytes()).get("pooling_mode_mean_tokens"))
    names = [str(name) for name in config.architectures or ()]
    if any(name.endswith("ForSequenceClassification") for name in names):
        return False
    return all(name.endswith("Model") for name in names) or not _has_pooler(folder)


def read_sentence_transformers(source: Path) -> dict[str, bool] | None:
    """Return the pooling modes of a sentence-transformers folder, or None when it has none.

    Raises:
        InvalidError: the file is not JSON with an object.
    """
    path = source / "1_Pooling" / "config.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        modes = {str(name): value for name, value in content.items() if str(name).startswith("pooling_mode_")}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InvalidError(f"{path.parent.name}/{path.name} is not a JSON object") from error
    return {name: value is True for name, value in modes.items()} or None


def _has_pooler(folder: Path) -> bool:
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as stream:
            if any("pooler.dense.weight" in name for name in stream.keys()):  # noqa: SIM118 - not a dict
                return True
    return False


def add_mean_pooling(model: nn.Module) -> None:
    """Initialize the last layer of the encoder and the pooler so that the head reads the mean of all tokens."""
    target: Any = model
    encoder = getattr(target, target.base_model_prefix).encoder
    layer = encoder.layer[-1]
    attention, output = layer.attention.self, layer.attention.output
    pooler = target.classifier.dense if hasattr(target.classifier, "dense") else target.bert.pooler.dense
    with torch.no_grad():
        for linear in (attention.query, attention.key, layer.intermediate.dense, layer.output.dense):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear, scale in ((attention.value, 1.0), (output.dense, _MEAN_SCALE), (pooler, _POOLER_SCALE)):
            linear.weight.copy_(torch.eye(len(linear.weight)) * scale)
            nn.init.zeros_(linear.bias)
        for norm in (output.LayerNorm, layer.output.LayerNorm):
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
