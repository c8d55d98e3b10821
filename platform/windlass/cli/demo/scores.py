"""Scores of predicted labels against true ones."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Scores(NamedTuple):
    """Shares between 0 and 1."""

    accuracy: float
    weighted_f1: float
    macro_f1: float


def score(truth: Sequence[str], predicted: Sequence[str]) -> Scores:
    """Return accuracy, and the mean of the labels' F1 weighted by how often each is true, and unweighted.

    F1 = 2 TP / (2 TP + FP + FN), and 0 for a label that is never predicted rightly. Labels are those that occur in
    either sequence, as in scikit-learn's ``f1_score``.

    Raises:
        ValueError: empty, or not of one length.
    """
    if not truth:
        raise ValueError("nothing to score")
    pairs = Counter(zip(truth, predicted, strict=True))
    support, claimed = Counter(truth), Counter(predicted)
    labels = sorted(support | claimed)
    f1 = {label: 2 * pairs[label, label] / (support[label] + claimed[label]) for label in labels}
    return Scores(
        accuracy=sum(pairs[label, label] for label in labels) / len(truth),
        weighted_f1=sum(f1[label] * support[label] for label in labels) / len(truth),
        macro_f1=sum(f1.values()) / len(labels),
    )
