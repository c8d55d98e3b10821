"""Warnings about finished trainings."""

from collections.abc import Sequence

import pytest
from tests.factories.training_runs import job_spec

from windlass.domain.models import failed_gates
from windlass.domain.specs import Gate
from windlass.domain.training_report import ConfusionMatrix
from windlass_pipelines.train.baselines import MAJORITY_CLASS, TFIDF, classification_baselines
from windlass_pipelines.train.checkpoints import BestEvaluation, TrainingProgress
from windlass_pipelines.train.diagnosis import diagnose, with_margin
from windlass_pipelines.train.tasks import EvaluationResult

FALLING = [1 / step for step in range(1, 41)]


def codes(
    counts: tuple[tuple[int, ...], ...] = ((9, 1), (1, 9)),
    *,
    f1: float = 0.9,
    baseline: float = 0.5,
    train_loss: Sequence[float] = FALLING,
    eval_loss: Sequence[float] = (1.0, 0.5, 0.4, 0.4),
) -> list[str]:
    evaluation = EvaluationResult(
        metrics={"weighted_f1": f1},
        confusion=ConfusionMatrix(labels=("a", "b"), counts=counts),
        baselines={TFIDF: {"weighted_f1": baseline}},
    )
    curves = {
        "train_loss": list(enumerate(train_loss, start=1)),
        "eval_loss": [(10 * number, loss) for number, loss in enumerate(eval_loss, start=1)],
    }
    return [w.code for w in diagnose(job_spec(), 3, TrainingProgress(curves=curves), evaluation)]


def test_metrics_without_a_finite_value_are_named() -> None:
    evaluation = EvaluationResult(metrics={"eval_loss": 1.0}, not_finite=("perplexity",))
    [warning] = diagnose(job_spec("chat"), 3, TrainingProgress(), evaluation)
    assert (warning.code, "perplexity" in warning.message) == ("metrics_not_finite", True)


def test_a_good_training_has_no_warning() -> None:
    assert codes() == []


@pytest.mark.parametrize(("counts", "collapsed"), [(((0, 50), (0, 50)), True), (((0, 1), (0, 199)), False)])
def test_a_model_that_predicts_one_label_has_collapsed_unless_the_labels_are_one(
    counts: tuple[tuple[int, ...], ...], collapsed: bool
) -> None:
    assert ("model_collapsed" in codes(counts)) == collapsed


def test_a_training_loss_that_does_not_fall_is_a_collapse() -> None:
    assert codes(train_loss=[0.7] * 40) == ["model_collapsed"]


def test_a_model_below_a_simple_one_is_reported() -> None:
    assert codes(f1=0.5, baseline=0.9) == ["baseline_not_beaten"]


def test_a_loss_that_still_falls_is_reported_with_the_command() -> None:
    assert codes(eval_loss=(1.0, 0.8, 0.6, 0.4)) == ["loss_still_falling"]
    curves = {"eval_loss": [(10, 1.0), (20, 0.5)]}
    [warning] = diagnose(job_spec(), 3, TrainingProgress(curves=curves), EvaluationResult(metrics={}))
    assert warning.message.endswith("--base-model tiny --dataset rows@1 --model tuned --epochs 6")


def test_a_chat_model_that_is_not_better_than_its_base_model_is_reported() -> None:
    progress = TrainingProgress(baseline=EvaluationResult(metrics={"eval_loss": 2.0}))
    warnings = diagnose(job_spec("chat"), 3, progress, EvaluationResult(metrics={"eval_loss": 2.5}))
    assert [w.code for w in warnings] == ["baseline_not_beaten"]


@pytest.mark.parametrize(("f1", "baseline", "passes"), [(0.9, 0.5, True), (0.5, 0.5, False), (0.4, 0.5, False)])
def test_the_gate_on_baselines_passes_only_a_better_classifier(f1: float, baseline: float, passes: bool) -> None:
    scores = {TFIDF: {"weighted_f1": baseline}, MAJORITY_CLASS: {"weighted_f1": 0.1}}
    evaluation = with_margin(None, EvaluationResult(metrics={"weighted_f1": f1}, baselines=scores))
    gates = [Gate.model_validate("beats_baseline")]
    assert (not failed_gates(gates, evaluation.metrics)) == passes


@pytest.mark.parametrize(("loss", "passes"), [(1.5, True), (2.0, False)])
def test_the_gate_on_baselines_passes_only_a_chat_model_better_than_its_base_model(loss: float, passes: bool) -> None:
    evaluation = with_margin(
        EvaluationResult(metrics={"eval_loss": 2.0}), EvaluationResult(metrics={"eval_loss": loss})
    )
    assert evaluation.metrics["margin_over_baseline"] == pytest.approx(2.0 - loss)
    assert (not failed_gates([Gate.model_validate("beats_baseline")], evaluation.metrics)) == passes


def test_without_a_baseline_there_is_no_margin_and_the_gate_fails() -> None:
    evaluation = with_margin(None, EvaluationResult(metrics={"eval_loss": 1.0}))
    assert "margin_over_baseline" not in evaluation.metrics
    assert failed_gates([Gate.model_validate("beats_baseline")], evaluation.metrics)


def test_the_baselines_are_the_majority_class_and_a_learned_bag_of_characters() -> None:
    train = [{"text": f"{word} {i}", "label": word} for i in range(12) for word in ("good", "poor", "good")]
    held_out = [{"text": f"{word} {i}", "label": word} for i in range(90, 94) for word in ("good", "poor")]
    scores = classification_baselines(train, held_out, ("good", "poor"))
    assert scores[MAJORITY_CLASS]["accuracy"] == 0.5
    assert scores[TFIDF]["accuracy"] == 1.0


def test_texts_without_features_have_no_tfidf_baseline() -> None:
    rows = [{"text": "", "label": label} for label in ("a", "b")]
    assert set(classification_baselines(rows, rows, ("a", "b"))) == {MAJORITY_CLASS}


def test_the_best_evaluation_has_the_highest_score_and_then_the_lowest_loss() -> None:
    best = BestEvaluation(step=1, score=0.5, loss=1.0)
    assert best.is_better_than(None)
    assert BestEvaluation(step=2, score=0.5, loss=0.9).is_better_than(best)
    assert not BestEvaluation(step=2, score=0.5, loss=1.0).is_better_than(best)
    assert not BestEvaluation(step=2, score=float("nan"), loss=0.1).is_better_than(None)
