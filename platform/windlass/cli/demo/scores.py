"""Scores of predicted labels against true labels."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Scores(NamedTuple):
    """Scores between 0 and 1."""

    accuracy: float
    weighted_f1: float
    macro_f1: float


def score(truth: Sequence[str], predicted: Sequence[str]) -> Scores:
    """Return accuracy, F1 weighted by support, and macro F1.

    F1 = 2 TP / (2 TP + FP + FN). The labels are those in either sequence, as in scikit-learn's ``f1_score``.

    Raises:
        ValueError: the sequences are empty or differ in length.
    """
    if not truth:
        raise ValueError("nothing to score")
    pairs = Counter(zip(truth, predicted, strict=True))
    support, predictions = Counter(truth), Counter(predicted)
    labels = sorted(support | predictions)
    f1 = {label: 2 * pairs[label, label] / (support[label] + predictions[label]) for label in labels}
    return Scores(
        accuracy=sum(pairs[label, label] for label in labels) / len(truth),
        weighted_f1=sum(f1[label] * support[label] for label in labels) / len(truth),
        macro_f1=sum(f1.values()) / len(labels),
    )
