"""The findings that head the report, as sentences made from the numbers."""

import math

from windlass.domain.datasets import Split
from windlass.domain.specs import FullMethod, Gate, LoraMethod, Method, Task
from windlass_pipelines.report.facts import ConfusionMatrix, GateVerdict, ReportFacts
from windlass_pipelines.report.figures import (
    count,
    duration,
    metric_title,
    number,
    percent,
    quantity,
    rows,
    within,
)
from windlass_pipelines.report.markup import cut

_SIGNS = {">=": "\u2265", "<=": "\u2264", ">": ">", "<": "<"}
_LABEL = 60
_FIRST = {
    Task.TEXT_CLASSIFICATION: ("weighted_f1", "macro_f1", "accuracy"),
    Task.CHAT: ("exact_answer_rate", "perplexity"),
}


def headline_metric(facts: ReportFacts) -> str | None:
    """Return the metric that the report leads with: one that a gate misses, a gate's, or the task's first."""
    gates = sorted(facts.gates, key=lambda verdict: verdict.passed)
    wanted = [verdict.gate.metric for verdict in gates] + list(_FIRST[facts.task]) + sorted(facts.evaluation)
    return next((name for name in wanted if math.isfinite(facts.evaluation.get(name, math.nan))), None)


def condition(verdict: GateVerdict) -> str:
    """Write a gate as people read it."""
    return f"{metric_title(verdict.gate.metric)} {_needs(verdict.gate)}"


def _needs(gate: Gate) -> str:
    return f"{_SIGNS[gate.operator]}\u00a0{gate.threshold:g}"


def headline(facts: ReportFacts) -> str:
    """Say how good the model is, against its gates or against the untuned model."""
    name = headline_metric(facts)
    if name is None:
        return f"{facts.model} was trained and not evaluated"
    value = facts.evaluation[name]
    before = facts.evaluation_before.get(name)
    missed = [verdict for verdict in facts.gates if not verdict.passed]
    if missed:
        gates = "its gate" if len(facts.gates) == 1 else f"{len(missed)} of its {len(facts.gates)} gates"
        needed = next((f", needs {_needs(v.gate)}" for v in missed if v.gate.metric == name), "")
        return f"{facts.model} misses {gates}: {_reading(facts, name, value)}{needed}"
    start = f"{facts.model}: {_reading(facts, name, value)}"
    if before is not None and math.isfinite(before):
        way = "up" if value > before else "down" if value < before else "unchanged"
        return f"{start}, {way} from {short(facts, name, before)}"
    return start


def _reading(facts: ReportFacts, name: str, value: float) -> str:
    if name == "exact_answer_rate":
        return f"{short(facts, name, value)} answers are exact"
    if name == "accuracy":
        return f"{short(facts, name, value)} of held-out rows are classified as labelled"
    return f"{within(name)} of {number(value)}"


def short(facts: ReportFacts, name: str, value: float) -> str:
    """Write a metric as shortly as it can be understood: answers by count, accuracy in per cent."""
    held_out = facts.data.rows.get(facts.evaluated_on, 0)
    if name == "exact_answer_rate" and held_out:
        return f"{round(value * held_out):,} of {held_out:,}"
    return percent(value, 1) if name in {"accuracy", "exact_answer_rate"} else number(value)


def method_phrase(method: Method) -> str:
    """Say how the weights were changed."""
    if isinstance(method, LoraMethod):
        return f"LoRA of rank {method.rank}"
    return "full fine-tuning" if isinstance(method, FullMethod) else "a new head on a frozen body"


def made_of(facts: ReportFacts) -> str:
    """Say what was tuned, how, on what and for how long."""
    base, data = facts.base_model, facts.data
    attempts = "" if facts.attempts == 1 else f", in {count(facts.attempts)} attempts"
    return (
        f"{base.name} tuned by {method_phrase(facts.method)} on {rows(data.rows.get(Split.TRAIN, 0))} of "
        f"{data.name}, version {data.version}. It trained {quantity(base.trainable)} of {quantity(base.parameters)} "
        f"weights for {count(facts.steps)} steps in {duration(facts.training_seconds)}{attempts}."
    )


def loss_finding(facts: ReportFacts) -> str:
    """Say where the evaluation loss (else the training loss) was lowest."""
    for name in ("eval_loss", "train_loss"):
        points = [(step, value) for step, value in facts.curves.get(name, ()) if math.isfinite(value)]
        if len(points) > 1:
            step, lowest = min(points, key=lambda point: point[1])
            if step == points[0][0]:
                return f"{metric_title(name)} does not fall: it is lowest at step {count(step)}, {number(lowest)}"
            rising = name == "eval_loss" and step != points[-1][0] and points[-1][1] > 1.02 * lowest
            turn = ", then rises again" if rising else ""
            return f"{metric_title(name)} falls to {number(lowest)} at step {count(step)}{turn}"
    return "Loss"


def score_finding(name: str, facts: ReportFacts) -> str:
    """Say where the evaluation metric ``name`` was highest."""
    points = [(step, value) for step, value in facts.curves.get(name, ()) if math.isfinite(value)]
    if not points:
        return "Scores"
    step, best = max(points, key=lambda point: (point[1], -point[0]))
    return f"{metric_title(name)}: highest at step {count(step)}, {number(best)}"


def quoted(label: str) -> str:
    """Return a label as it stands in a sentence."""
    return f"\u201c{cut(label, _LABEL)}\u201d"


def confusions(matrix: ConfusionMatrix) -> list[tuple[str, str, int, int]]:
    """Return (expected, predicted, rows, rows so labelled) of every confusion, the most frequent first."""
    found = [
        (expected, predicted, cell, sum(line))
        for expected, line in zip(matrix.labels, matrix.counts, strict=True)
        for predicted, cell in zip(matrix.labels, line, strict=True)
        if cell and expected != predicted
    ]
    return sorted(found, key=lambda item: (-item[2], item[0], item[1]))


def confusion_finding(matrix: ConfusionMatrix) -> str:
    """Name the most frequent confusion."""
    found = confusions(matrix)
    if not found:
        return "No held-out row is confused with another label"
    expected, predicted, wrong, total = found[0]
    return f"Most often confused: {quoted(expected)} taken for {quoted(predicted)}, {count(wrong)} of {rows(total)}"
