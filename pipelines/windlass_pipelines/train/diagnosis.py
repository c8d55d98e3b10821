"""Warnings about a finished training: unused data, missing metrics, a collapsed model, a loss that still falls, ..."""

from collections.abc import Sequence
from dataclasses import dataclass

from windlass.domain.reports import JobWarning
from windlass.domain.specs import JobSpec
from windlass.domain.training_report import ConfusionMatrix, TrainingReport
from windlass.kit.numbers import count
from windlass_pipelines.train.checkpoints import TrainingProgress
from windlass_pipelines.train.tasks import EvaluationResult

_COLLAPSED_SHARE = 0.99
_MIN_POINTS = 10
"""Steps below which the start and the end of the training loss are not compared."""
_STILL_FALLING = 0.01
"""Relative decrease of the evaluation loss over the last tenth of the training."""


REPORT_NOT_WRITTEN = JobWarning(
    code="report_not_written",
    message="the model is complete, but its report could not be written; the log of the job has the cause",
)


def data_warnings(report: TrainingReport) -> list[JobWarning]:
    """Return what was not trained or evaluated on as the dataset has it."""
    data, limit = report.data, report.training.max_length
    warnings = [
        JobWarning(
            code="rows_dropped",
            message=f"{count(rows, 'row')} of split {split} not used: no answer begins within {limit} tokens",
            context={"split": split.value, "rows": rows, "max_length": limit},
        )
        for split, rows in data.dropped.items()
    ]
    if data.truncated:
        message = f"{count(data.truncated, 'row')} truncated to {limit} tokens; training.max_length sets the limit"
        warnings.append(
            JobWarning(code="rows_truncated", message=message, context={"rows": data.truncated, "max_length": limit})
        )
    if report.unanswered:
        message = f"{count(report.unanswered, 'evaluated row')} not answered: the prompt is too long"
        warnings.append(JobWarning(code="rows_unanswered", message=message, context={"rows": report.unanswered}))
    if data.also_trained_on:
        rows = count(data.rows[report.evaluated_on], "evaluated row")
        message = f"{data.also_trained_on:,} of {rows} also in split train: the metrics do not show how it generalizes"
        warnings.append(
            JobWarning(code="evaluated_on_training_rows", message=message, context={"rows": data.also_trained_on})
        )
    return warnings


def diagnose(
    spec: JobSpec, epochs: float, progress: TrainingProgress, evaluation: EvaluationResult
) -> list[JobWarning]:
    """Return the warnings about the result of a training with ``epochs`` epochs."""
    warnings: list[JobWarning] = []
    if evaluation.not_finite:
        names = ", ".join(evaluation.not_finite)
        message = f"not computed, because the value is not a finite number: {names}; a gate on it fails"
        warnings.append(JobWarning(code="metrics_not_finite", message=message))
    if evaluation.confusion is not None and (collapse := _collapse(evaluation.confusion)):
        warnings.append(JobWarning(code="model_collapsed", message=collapse))
    elif not _loss_fell(progress.curves.get("train_loss", [])):
        warnings.append(
            JobWarning(
                code="model_collapsed",
                message="the training loss did not fall: try another learning rate or cleaner data",
            )
        )
    comparison = _compare(progress.baseline, evaluation)
    if comparison and comparison.margin <= 0:
        warnings.append(JobWarning(code="baseline_not_beaten", message=comparison.sentence))
    elif _still_falls(progress.curves.get("eval_loss", [])):
        command = (
            f"windlass job create --task {spec.task} --base-model {spec.base_model} --dataset {spec.dataset} "
            f"--model {spec.model} --epochs {2 * epochs:g}"
        )
        message = f"the evaluation loss was still falling at the end: more epochs would probably help: {command}"
        warnings.append(JobWarning(code="loss_still_falling", message=message))
    return warnings


def _collapse(confusion: ConfusionMatrix) -> str | None:
    """Return a sentence when nearly all predictions are one label and the true labels are not."""
    rows = sum(map(sum, confusion.counts))
    predicted = [sum(column) for column in zip(*confusion.counts, strict=True)]
    most = max(predicted, default=0)
    largest_class = max(map(sum, confusion.counts), default=0)
    if rows == 0 or most < _COLLAPSED_SHARE * rows or largest_class >= _COLLAPSED_SHARE * rows:
        return None
    label = confusion.labels[predicted.index(most)]
    return (
        f"the model predicts {label!r} for {most} of {rows} evaluated rows: it did not learn to tell the labels apart; "
        "try a lower learning rate, more epochs, or another base model"
    )


def _loss_fell(points: Sequence[tuple[int, float]]) -> bool:
    if len(points) < _MIN_POINTS:
        return True
    part = max(1, len(points) // 10)
    return _mean(points[-part:]) < _mean(points[:part])


def _mean(points: Sequence[tuple[int, float]]) -> float:
    return sum(value for _, value in points) / len(points)


def _still_falls(points: Sequence[tuple[int, float]]) -> bool:
    """Return whether the loss at the end is lower than before the last tenth of the steps, and the lowest of all."""
    if len(points) < 2:  # noqa: PLR2004 - one point has no slope
        return False
    last_step, last = points[-1]
    before = [value for step, value in points if step <= 0.9 * last_step]
    return bool(before) and last <= min(value for _, value in points) and last < before[-1] * (1 - _STILL_FALLING)


def with_margin(base_model: EvaluationResult | None, evaluation: EvaluationResult) -> EvaluationResult:
    """Add the metric ``margin_over_baseline`` if there is a baseline; see ``windlass.domain.specs.GATE_METRICS``."""
    comparison = _compare(base_model, evaluation)
    if comparison is None:
        return evaluation
    margin = {"margin_over_baseline": comparison.margin}
    return evaluation.model_copy(update={"metrics": evaluation.metrics | margin})


@dataclass(frozen=True)
class _Comparison:
    margin: float
    sentence: str
    """For a margin that is not positive."""


def _compare(base_model: EvaluationResult | None, evaluation: EvaluationResult) -> _Comparison | None:
    score = evaluation.metrics.get("weighted_f1")
    best = max(((scores["weighted_f1"], name) for name, scores in evaluation.baselines.items()), default=None)
    if score is not None and best is not None:
        name = best[1].replace("_", " ")
        sentence = f"weighted F1 is {score:.3f}, not above the {best[0]:.3f} of the baseline {name} on the same rows"
        return _Comparison(score - best[0], sentence)
    old = (base_model.metrics if base_model else {}).get("eval_loss")
    new = evaluation.metrics.get("eval_loss")
    if old is None or new is None:
        return None
    return _Comparison(old - new, f"the loss is {new:.3f}, not below the {old:.3f} of the base model on the same rows")
