"""Text classification without HTTP: the request model and the classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

from windlass.domain.endpoints import MAX_INPUT_CHARACTERS, MAX_INPUTS, MAX_TOP_K
from windlass_pipelines.serve.artifact import ModelLoadError
from windlass_pipelines.serve.loading import LoadedModel

_ROWS_PER_PASS = 32
"""Rows per forward pass; a larger batch needs more memory and is not faster on a CPU."""


class PredictRequest(BaseModel):
    """The body of ``POST /predict``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    inputs: list[Annotated[str, Field(max_length=MAX_INPUT_CHARACTERS)]] = Field(min_length=1, max_length=MAX_INPUTS)
    top_k: int | None = Field(default=None, ge=1, le=MAX_TOP_K, description="return only the k most likely labels")


@dataclass(frozen=True)
class TextScores:
    """Probabilities of one text in label order; ``truncated`` when the text exceeds the maximum length."""

    probabilities: list[float]
    truncated: bool
    tokens: int
    """Tokens that the model has read."""


class Classifier:
    """Computes label probabilities from the same logits as the trainer's evaluation."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Wrap a loaded model.

        Raises:
            ModelLoadError: the artifact's number of labels differs from the model's number of outputs.
        """
        self._model, self._tokenizer, self._max_length = loaded.model, loaded.tokenizer, loaded.max_length
        config = loaded.model.config
        self.labels = loaded.metadata.labels or tuple(str(config.id2label[index]) for index in range(config.num_labels))
        if len(self.labels) != config.num_labels:
            raise ModelLoadError(f"the artifact has {len(self.labels)} labels, its model has {config.num_labels}")

    def score(self, texts: Sequence[str]) -> list[TextScores]:
        """Score any number of texts; texts of similar length share a forward pass, to reduce padding."""
        # special tokens typed in a text are ordinary text, as in training
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_length, split_special_tokens=True)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        probabilities: dict[int, list[float]] = {}
        for start in range(0, len(order), _ROWS_PER_PASS):
            rows = order[start : start + _ROWS_PER_PASS]
            features = {name: [values[row] for row in rows] for name, values in encoded.items()}
            probabilities.update(zip(rows, self._forward(features), strict=True))
        return [
            TextScores(probabilities[row], lengths[row] >= self._max_length and self._is_longer(text), lengths[row])
            for row, text in enumerate(texts)
        ]

    def _is_longer(self, text: str) -> bool:
        ids = self._tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]
        return len(ids) > self._max_length

    def _forward(self, features: dict[str, list[list[int]]]) -> list[list[float]]:
        with torch.inference_mode():
            batch = self._tokenizer.pad(features, padding=True, return_tensors="pt", verbose=False)
            logits: torch.Tensor = self._model(**batch.to(self._model.device)).logits
            result: list[list[float]] = torch.softmax(logits.float(), dim=-1).tolist()
        return result


def prediction(labels: Sequence[str], scored: TextScores, top_k: int | None) -> list[dict[str, object]]:
    """Return labels with their probabilities, the most likely first."""
    ranked = sorted(zip(labels, scored.probabilities, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in islice(ranked, top_k)]
