"""Our scores against scikit-learn's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from windlass_pipelines.train.tasks.scores import class_scores, metrics_of


@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_scores_equal_those_of_scikit_learn(labels: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, truth = random.normal(size=(rows, labels)), random.integers(0, labels, rows)
    guess, names = logits.argmax(axis=1), list(range(labels))
    scores = class_scores(truth, guess, labels)
    expected = metrics.precision_recall_fscore_support(truth, guess, labels=names, zero_division=0)
    for ours, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)
    np.testing.assert_array_equal(scores.confusion, metrics.confusion_matrix(truth, guess, labels=names))
    found = metrics_of(logits, truth)
    weighted = metrics.precision_recall_fscore_support(truth, guess, labels=names, average="weighted", zero_division=0)
    macro = metrics.f1_score(truth, guess, labels=names, average="macro", zero_division=0)
    named = [found[name] for name in ("precision", "recall", "weighted_f1", "macro_f1", "accuracy")]
    np.testing.assert_allclose(named, [*weighted[:3], macro, metrics.accuracy_score(truth, guess)])
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["eval_loss"], metrics.log_loss(truth, likely, labels=names))
