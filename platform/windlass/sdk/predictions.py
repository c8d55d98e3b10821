"""Predictions of classification endpoints, and the requests that they are split into."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from windlass.domain.endpoints import MAX_INPUTS, MAX_REQUEST_BYTES
from windlass.domain.errors import UpstreamError
from windlass.wire.models import LabelScore, PredictOut

_MAX_INPUT_BYTES = MAX_REQUEST_BYTES - 1024
"""Encoded size of the texts of one request; the rest is for the other fields of the body."""
_MAX_BYTES_PER_CHARACTER = 6
"""A control character in JSON is written as ``\\u0001``; every other one needs at most four bytes."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels of one text with their probabilities, most probable first.

    ``truncated``: the text exceeds the length that the model reads, and its end was ignored. ``model`` is the version
    that answered, such as ``ticket-router@3``.
    """

    labels: tuple[LabelScore, ...]
    truncated: bool
    model: str

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.labels[0].label

    @property
    def score(self) -> float:
        """The probability of ``label``."""
        return self.labels[0].score


def request_batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Split texts into lists that fit into one request, by number and by size."""
    batch: list[str] = []
    size = 0
    for text in texts:
        longest = _MAX_BYTES_PER_CHARACTER * len(text) + 3
        if batch and (len(batch) == MAX_INPUTS or size + longest > _MAX_INPUT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += longest
    if batch:
        yield batch


def decode_predictions(answer: PredictOut, texts: int) -> list[Prediction]:
    """Return one prediction per text of a request.

    Raises:
        UpstreamError: the response has another number of predictions, or one without a label.
    """
    if len(answer.predictions) != texts or not all(answer.predictions):
        raise UpstreamError(f"the endpoint returned {len(answer.predictions)} predictions for {texts} texts")
    truncated = frozenset(answer.truncated)
    model = f"{answer.model}@{answer.number}"
    return [Prediction(tuple(labels), index in truncated, model) for index, labels in enumerate(answer.predictions)]
