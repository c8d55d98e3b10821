"""Classification: batching does not change the probabilities."""

from pathlib import Path

import pytest
import torch
from tests.unit.serve.tiny_artifacts import LABELS, MAX_LENGTH, seal

from windlass.domain.specs import Task
from windlass_pipelines.serve.artifact import load_verified_metadata
from windlass_pipelines.serve.classifier import Classifier, TextScores, prediction
from windlass_pipelines.serve.loading import LoadedModel, load
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.tasks.text_classification import TextClassificationTask

TEXTS = ["good", "a much longer text than that", "x" * 80, "", "né 😀"]


@pytest.fixture(scope="module")
def loaded(classifier_folder: Path) -> LoadedModel:
    return load(
        classifier_folder,
        load_verified_metadata(classifier_folder, seal(classifier_folder), Task.TEXT_CLASSIFICATION),
        threads=1,
    )


def test_probabilities_equal_those_of_the_trainer_evaluation(loaded: LoadedModel, classifier_folder: Path) -> None:
    task = TextClassificationTask(classifier_folder, LABELS, MAX_LENGTH)
    examples, _ = task.encode([{"text": text, "label": LABELS[0]} for text in TEXTS])
    logits, _ = task._predict(
        loaded.model, examples, DistributedContext(rank=0, world_size=1, device=torch.device("cpu"))
    )
    expected = torch.softmax(torch.from_numpy(logits), dim=-1)
    scored = torch.tensor([item.probabilities for item in Classifier(loaded).score(TEXTS)], dtype=torch.float64)
    assert torch.allclose(scored, expected, atol=1e-6)
    assert len({tuple(row) for row in expected.round(decimals=4).tolist()}) == len(TEXTS)


def test_batching_does_not_change_scores_or_their_order(loaded: LoadedModel) -> None:
    classifier = Classifier(loaded)
    many = [text + str(n) for n in range(20) for text in TEXTS]
    together = classifier.score(many)
    for text, item in zip(many, together, strict=True):
        (alone,) = classifier.score([text])
        assert item.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_only_truncated_texts_are_marked_as_truncated(loaded: LoadedModel) -> None:
    room = MAX_LENGTH - 2  # [CLS] and [SEP]
    scored = Classifier(loaded).score(["x" * (room - 1), "x" * room, "x" * (room + 1)])
    assert [item.truncated for item in scored] == [False, False, True]


def test_predictions_are_sorted_and_limited_to_top_k() -> None:
    scored = TextScores([0.2, 0.5, 0.3], truncated=False, tokens=4)
    assert prediction(LABELS, scored, None) == [
        {"label": "neutral", "score": 0.5},
        {"label": "positive", "score": 0.3},
        {"label": "negative", "score": 0.2},
    ]
    assert prediction(LABELS, scored, 1) == [{"label": "neutral", "score": 0.5}]
    assert len(prediction(LABELS, scored, 99)) == 3
