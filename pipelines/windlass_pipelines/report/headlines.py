"""Headlines and summary sentences of the report, generated from its numbers."""

import math
from collections.abc import Mapping

from windlass.domain.datasets import CleaningStep, Split, SplitRows
from windlass.domain.specs import FullMethod, Gate, LoraMethod, Method, Task
from windlass.domain.training_report import ConfusionMatrix, Curve, GateResult, TrainingReport
from windlass_pipelines.report.formatting import (
    compact_count,
    count,
    duration,
    metric_phrase,
    metric_title,
    number,
    percent,
    row_count,
)
from windlass_pipelines.report.markup import truncate

_SIGNS = {">=": "\u2265", "<=": "\u2264", ">": ">", "<": "<"}
_LABEL = 60
BASELINE_TITLES = {
    "majority_class": "Always the most frequent label",
    "tfidf_logistic_regression": "TF-IDF and logistic regression",
}
_DEFAULT_METRICS = {
    Task.TEXT_CLASSIFICATION: ("weighted_f1", "macro_f1", "accuracy"),
    Task.CHAT: ("exact_answer_rate", "perplexity"),
}


def headline_metric(report: TrainingReport) -> str | None:
    """Return the main metric: that of a failed gate, of a gate, or the first one of the task."""
    gates = sorted(report.gates, key=lambda result: result.passed)
    wanted = [result.gate.metric for result in gates] + list(_DEFAULT_METRICS[report.task]) + sorted(report.evaluation)
    return next((name for name in wanted if math.isfinite(report.evaluation.get(name, math.nan))), None)


def gate_condition(result: GateResult) -> str:
    """Return a gate as text."""
    return f"{metric_title(result.gate.metric)} {_threshold(result.gate)}"


def _threshold(gate: Gate) -> str:
    return f"{_SIGNS[gate.operator]}\u00a0{gate.threshold:g}"


def headline(report: TrainingReport) -> str:
    """Summarise the evaluation, relative to the gates or the base model."""
    name = headline_metric(report)
    if name is None:
        return f"{report.model} was trained but not evaluated"
    value = report.evaluation[name]
    before = report.evaluation_before.get(name)
    failed = [result for result in report.gates if not result.passed]
    if failed:
        gates = "its gate" if len(report.gates) == 1 else f"{len(failed)} of its {len(report.gates)} gates"
        needed = next((f", required {_threshold(v.gate)}" for v in failed if v.gate.metric == name), "")
        return f"{report.model} fails {gates}: {_metric_sentence(report, name, value)}{needed}"
    start = f"{report.model}: {_metric_sentence(report, name, value)}"
    if before is not None and math.isfinite(before):
        change = "up" if value > before else "down" if value < before else "unchanged"
        return f"{start}, {change} from {short_metric(report, name, before)}"
    return start


def evaluated_rows(report: TrainingReport) -> str:
    """Name the rows of the evaluation; rows that were trained on are never called held out."""
    rows, seen = report.data.rows.get(report.evaluated_on, 0), report.data.also_trained_on
    if seen == 0:
        return "held-out rows"
    return "the rows it was trained on" if seen >= rows else f"rows, {seen:,} of them also training rows"


def evaluated_split(report: TrainingReport) -> str:
    """Describe number, split and kind of the evaluated rows."""
    rows, seen = report.data.rows.get(report.evaluated_on, 0), report.data.also_trained_on
    note = "" if seen == 0 else ", the rows it was trained on" if seen >= rows else f" ({seen:,} of them also in train)"
    return f"{row_count(rows)} of the {report.evaluated_on} split{note}"


def unused_rows_note(report: TrainingReport) -> str:
    """Say how many rows were not used and why, and how many were truncated; empty when all were used in full."""
    limit = report.training.max_length
    reasons = (
        ("Not used, because the text, the label or an answer is missing", report.data.skipped),
        (f"Not used, because no answer begins within {limit} tokens", report.data.dropped),
    )
    notes = [
        f"{reason}: {', '.join(f'{row_count(rows)} of {split}' for split, rows in counts.items())}."
        for reason, counts in reasons
        if counts
    ]
    notes += [f"Truncated to {limit} tokens: {row_count(report.data.truncated)}."] if report.data.truncated else []
    return " ".join(notes)


def preparation_note(report: TrainingReport) -> str:
    """Name the steps that made the dataset version from the uploaded rows, and how its splits were made."""
    steps = ", ".join(map(_step_phrase, report.data.steps))
    return f"Prepared from the uploaded rows by these steps: {steps}." if steps else ""


def _step_phrase(step: CleaningStep) -> str:
    if not isinstance(step, SplitRows):
        return step.op
    parts = zip(Split, (step.train, step.validation, step.test), strict=True)
    how = [f"{split} {percent(part, 1)}" for split, part in parts if part]
    how += ["labels in proportion"] if step.stratify else []
    how += ["groups kept together"] if step.by_group else []
    return f"{step.op} ({'; '.join([*how, f'seed {step.seed}'])})"


def kept_sentence(report: TrainingReport) -> str:
    """Say which step's weights are registered, when it is not the last one."""
    kept = report.kept
    if kept is None or kept.step == report.steps:
        return ""
    return (
        f"The weights of step {count(kept.step)} are registered: evaluation loss {number(kept.loss)}, "
        f"after the last step {number(kept.last_loss)}."
    )


def _metric_sentence(report: TrainingReport, name: str, value: float) -> str:
    if name == "exact_answer_rate":
        seen = "" if report.data.also_trained_on == 0 else f" on {evaluated_rows(report)}"
        return f"{short_metric(report, name, value)} answers match exactly{seen}"
    if name == "accuracy":
        return f"{short_metric(report, name, value)} of {evaluated_rows(report)} are classified correctly"
    return f"{metric_phrase(name)} of {number(value)}"


def short_metric(report: TrainingReport, name: str, value: float) -> str:
    """Format a metric briefly: answers by count, accuracy in per cent."""
    answered = report.data.rows.get(report.evaluated_on, 0) - report.unanswered
    if name == "exact_answer_rate" and answered > 0:
        return f"{round(value * answered):,} of {answered:,}"
    return percent(value, 1) if name in {"accuracy", "exact_answer_rate"} else number(value)


def method_phrase(method: Method) -> str:
    """Return the fine-tuning method as text."""
    if isinstance(method, LoraMethod):
        return f"LoRA (rank {method.rank})"
    return "full fine-tuning" if isinstance(method, FullMethod) else "head-only training (base model frozen)"


def provenance_phrase(report: TrainingReport) -> str:
    """Summarise base model, method, dataset and duration."""
    base, data = report.base_model, report.data
    attempts = "" if report.attempts == 1 else f", in {count(report.attempts)} attempts"
    return (
        f"{base.name} fine-tuned on {row_count(data.rows.get(Split.TRAIN, 0))} of {data.name}, version {data.version}, "
        f"with {method_phrase(report.method)}: {compact_count(base.trainable)} of {compact_count(base.parameters)} "
        f"parameters trained for {count(report.steps)} steps in {duration(report.training_seconds)}{attempts}."
    )


def loss_summary(curves: Mapping[str, Curve]) -> str:
    """Return where the evaluation loss, or else the training loss, was lowest."""
    for name in ("eval_loss", "train_loss"):
        points = [(step, value) for step, value in curves.get(name, ()) if math.isfinite(value)]
        if len(points) > 1:
            step, lowest = min(points, key=lambda point: point[1])
            if step == points[0][0]:
                return f"{metric_title(name)} does not decrease: lowest at step {count(step)}, {number(lowest)}"
            rising = name == "eval_loss" and step != points[-1][0] and points[-1][1] > 1.02 * lowest
            suffix = ", then rises again" if rising else ""
            return f"{metric_title(name)} falls to {number(lowest)} at step {count(step)}{suffix}"
    return "Loss"


def score_summary(name: str, report: TrainingReport) -> str:
    """Return where the evaluation metric ``name`` was highest."""
    points = [(step, value) for step, value in report.curves.get(name, ()) if math.isfinite(value)]
    if not points:
        return "Metrics"
    step, best = max(points, key=lambda point: (point[1], -point[0]))
    return f"{metric_title(name)}: highest at step {count(step)}, {number(best)}"


def quoted(label: str) -> str:
    """Return a label in quotes, truncated."""
    return f"\u201c{truncate(label, _LABEL)}\u201d"


def confusions(matrix: ConfusionMatrix) -> list[tuple[str, str, int, int]]:
    """Return (label, prediction, rows, all rows with this label) of every confusion, the most frequent first."""
    pairs = [
        (expected, predicted, cell, sum(line))
        for expected, line in zip(matrix.labels, matrix.counts, strict=True)
        for predicted, cell in zip(matrix.labels, line, strict=True)
        if cell and expected != predicted
    ]
    return sorted(pairs, key=lambda item: (-item[2], item[0], item[1]))


def confusion_summary(matrix: ConfusionMatrix) -> str:
    """Return the most frequent confusion as text."""
    pairs = confusions(matrix)
    if not pairs:
        return "No evaluated row is misclassified"
    expected, predicted, wrong, total = pairs[0]
    pair = f"{quoted(expected)} predicted as {quoted(predicted)}"
    return f"Most frequent confusion: {pair}, {count(wrong)} of {row_count(total)}"
