"""Simple models that a fine-tuned classifier must beat, trained and scored on the same rows."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from windlass_pipelines.rows import Row
from windlass_pipelines.train.tasks.scores import IntArray, classification_metrics

MAJORITY_CLASS = "majority_class"
TFIDF = "tfidf_logistic_regression"
_MAX_ROWS = 20_000
"""Training rows of the logistic regression; more take minutes."""
_MAX_CHARACTERS = 5_000
_METRICS = ("accuracy", "weighted_f1", "macro_f1")
_log = logging.getLogger(__name__)

Scores = dict[str, dict[str, float]]


def classification_baselines(train: Sequence[Row], held_out: Sequence[Row], labels: Sequence[str]) -> Scores:
    """Return the scores of the most frequent label and of TF-IDF with logistic regression."""
    index = {label: number for number, label in enumerate(labels)}
    truth = np.asarray([index[row["label"]] for row in held_out])
    majority = index[Counter(row["label"] for row in train).most_common(1)[0][0]]
    scores = {MAJORITY_CLASS: _scores(np.full(len(truth), majority), truth, len(labels))}
    predicted = _tfidf_predictions(train, held_out, index)
    if predicted is not None:
        scores[TFIDF] = _scores(predicted, truth, len(labels))
    return scores


def _tfidf_predictions(train: Sequence[Row], held_out: Sequence[Row], index: Mapping[str, int]) -> IntArray | None:
    """Return the predicted label numbers, or None when the texts have no features."""
    # imported here: it takes seconds to load, and only rank 0 needs it, after the training
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - see above
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - see above
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - see above

    sample = train
    if len(train) > _MAX_ROWS:
        chosen = np.random.default_rng(0).choice(len(train), _MAX_ROWS, replace=False)
        sample = [train[i] for i in np.sort(chosen)]
    # characters and not words: the same features serve every language
    model = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=50_000, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=300),
    )
    try:
        model.fit([str(row["text"])[:_MAX_CHARACTERS] for row in sample], [index[row["label"]] for row in sample])
        predictions: IntArray = np.asarray(model.predict([str(row["text"])[:_MAX_CHARACTERS] for row in held_out]))
    except ValueError as error:  # an empty vocabulary, or one label in the sample
        _log.warning("no TF-IDF baseline: %s", error)
        return None
    return predictions


def _scores(
    predicted: IntArray,
    truth: IntArray,
    labels: int,
) -> dict[str, float]:
    metrics = classification_metrics(np.eye(labels)[predicted], truth)
    return {name: metrics[name] for name in _METRICS}
