"""Classification metrics from logits, in numpy: importing scikit-learn takes longer than training a small model.

Precision, recall and F1 are 0 where their denominator is 0; weighted means use the support as weights. As in
scikit-learn, macro F1 is the mean over the classes that occur among the labels or the predictions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """Arrays of shape (labels,) in label order; ``confusion`` has shape (true labels, predicted labels)."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    support: IntArray
    predicted: IntArray
    confusion: IntArray


def class_scores(true_labels: IntArray, predicted_labels: IntArray, labels: int) -> ClassScores:
    """Return the scores of each class. ``true_labels`` and ``predicted_labels`` are class indices, shape (rows,)."""
    confusion = np.bincount(true_labels * labels + predicted_labels, minlength=labels * labels).reshape(labels, labels)
    true_positives = confusion.diagonal().astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        precision=_ratio(true_positives, predicted),
        recall=_ratio(true_positives, support),
        f1=_ratio(2 * true_positives, support + predicted),
        support=support,
        predicted=predicted,
        confusion=confusion,
    )


def classification_metrics(logits: FloatArray, true_labels: IntArray) -> dict[str, float]:
    """Return the metrics by gate name. ``logits`` is (rows, labels), ``true_labels`` (rows,)."""
    predicted_labels = logits.argmax(axis=1)
    scores = class_scores(true_labels, predicted_labels, logits.shape[1])
    class_weights = scores.support / max(1, len(true_labels))
    return {
        "accuracy": float((predicted_labels == true_labels).mean()),
        "precision": float(scores.precision @ class_weights),
        "recall": float(scores.recall @ class_weights),
        "weighted_f1": float(scores.f1 @ class_weights),
        "macro_f1": float(scores.f1[(scores.support > 0) | (scores.predicted > 0)].mean()),
        # + 0.0 because the mean of a perfect prediction is -0.0
        "eval_loss": float(-log_softmax(logits)[np.arange(len(true_labels)), true_labels].mean()) + 0.0,
    }


def log_softmax(logits: FloatArray) -> FloatArray:
    """Return the log-softmax of each row, shape (rows, labels)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _ratio(numerators: NDArray[np.generic], denominators: NDArray[np.generic]) -> FloatArray:
    result: FloatArray = np.divide(numerators, denominators, out=np.zeros(len(denominators)), where=denominators != 0)
    return result
