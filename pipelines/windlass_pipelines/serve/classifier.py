"""Text classification without HTTP: what is asked, and the model that answers it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

from windlass_pipelines.serve.artifact import ModelLoadError
from windlass_pipelines.serve.limits import MAX_INPUT_CHARACTERS, MAX_INPUTS
from windlass_pipelines.serve.loading import LoadedModel

_ROWS_PER_PASS = 32
"""Rows in one pass through the model; more cost memory and gain nothing on a CPU."""


class PredictRequest(BaseModel):
    """The body of ``POST /predict``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    inputs: list[Annotated[str, Field(max_length=MAX_INPUT_CHARACTERS)]] = Field(min_length=1, max_length=MAX_INPUTS)
    top_k: int | None = Field(default=None, ge=1, le=10_000, description="only the k likeliest labels")


@dataclass(frozen=True)
class Scored:
    """One text's probabilities in label order, and whether only its beginning was read."""

    probabilities: list[float]
    truncated: bool


class Classifier:
    """Texts in, probabilities out, from the same logits as the trainer's evaluation."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Take a loaded model.

        Raises:
            ModelLoadError: the artifact names another number of labels than the model has outputs.
        """
        self._model, self._tokenizer, self._max_length = loaded.model, loaded.tokenizer, loaded.max_length
        config = loaded.model.config
        self.labels = loaded.card.labels or tuple(str(config.id2label[index]) for index in range(config.num_labels))
        if len(self.labels) != config.num_labels:
            raise ModelLoadError(f"the artifact names {len(self.labels)} labels, its model has {config.num_labels}")

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Score any number of texts; those of like length share a pass, so that little padding is computed."""
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        probabilities: dict[int, list[float]] = {}
        for start in range(0, len(order), _ROWS_PER_PASS):
            rows = order[start : start + _ROWS_PER_PASS]
            features = {name: [values[row] for row in rows] for name, values in encoded.items()}
            probabilities.update(zip(rows, self._pass(features), strict=True))
        return [
            Scored(probabilities[row], lengths[row] >= self._max_length and self._is_longer(text))
            for row, text in enumerate(texts)
        ]

    def _is_longer(self, text: str) -> bool:
        return len(self._tokenizer(text, verbose=False)["input_ids"]) > self._max_length

    def _pass(self, features: dict[str, list[list[int]]]) -> list[list[float]]:
        with torch.inference_mode():
            batch = self._tokenizer.pad(features, padding=True, return_tensors="pt", verbose=False)
            logits: torch.Tensor = self._model(**batch.to(self._model.device)).logits
            result: list[list[float]] = torch.softmax(logits.float(), dim=-1).tolist()
        return result


def prediction(labels: Sequence[str], scored: Scored, top_k: int | None) -> list[dict[str, object]]:
    """Return labels with their probabilities, the likeliest first."""
    ranked = sorted(zip(labels, scored.probabilities, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in islice(ranked, top_k)]
