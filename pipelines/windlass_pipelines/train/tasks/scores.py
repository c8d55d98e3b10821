"""Scores of a classifier from its logits, in numpy: importing scikit-learn takes longer than training a small model.

Precision, recall and F1 are 0 where nothing was predicted or nothing is true; weighted means weigh by support.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """Per class, in label order: arrays of shape (labels,); ``confusion`` is (true, predicted)."""

    precision: Reals
    recall: Reals
    f1: Reals
    support: Integers
    confusion: Integers


def class_scores(truth: Integers, guess: Integers, labels: int) -> ClassScores:
    """Count and divide. ``truth`` and ``guess`` are label numbers, shape (rows,)."""
    confusion = np.bincount(truth * labels + guess, minlength=labels * labels).reshape(labels, labels)
    hits, support, predicted = confusion.diagonal().astype(np.float64), confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + predicted),
        support=support,
        confusion=confusion,
    )


def metrics_of(logits: Reals, truth: Integers) -> dict[str, float]:
    """Return the metrics by the names that gates use. ``logits`` is (rows, labels), ``truth`` (rows,)."""
    guess = logits.argmax(axis=1)
    scores = class_scores(truth, guess, logits.shape[1])
    shares = scores.support / max(1, len(truth))
    return {
        "accuracy": float((guess == truth).mean()),
        "precision": float(scores.precision @ shares),
        "recall": float(scores.recall @ shares),
        "weighted_f1": float(scores.f1 @ shares),
        "macro_f1": float(scores.f1.mean()),
        "eval_loss": float(-log_softmax(logits)[np.arange(len(truth)), truth].mean()),
    }


def log_softmax(logits: Reals) -> Reals:
    """Return the logarithms of the probabilities, row by row."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Reals = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _ratio(parts: NDArray[np.generic], wholes: NDArray[np.generic]) -> Reals:
    result: Reals = np.divide(parts, wholes, out=np.zeros(len(wholes)), where=wholes != 0)
    return result
