"""The classification metrics equal those of scikit-learn."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from windlass_pipelines.train.tasks.scores import class_scores, classification_metrics


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
    loaded = classification_metrics(logits, truth)
    weighted = metrics.precision_recall_fscore_support(truth, guess, labels=names, average="weighted", zero_division=0)
    macro = metrics.f1_score(truth, guess, average="macro", zero_division=0)
    named = [loaded[name] for name in ("precision", "recall", "weighted_f1", "macro_f1", "accuracy")]
    np.testing.assert_allclose(named, [*weighted[:3], macro, metrics.accuracy_score(truth, guess)])
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loaded["eval_loss"], metrics.log_loss(truth, likely, labels=names))


def test_a_perfect_model_has_macro_f1_1_without_rows_of_a_class_and_a_loss_of_positive_zero() -> None:
    scores = classification_metrics(np.array([[1000.0, 0.0, 0.0], [0.0, 1000.0, 0.0]]), np.array([0, 1]))
    assert scores["macro_f1"] == 1.0
    assert str(scores["eval_loss"]) == "0.0"
