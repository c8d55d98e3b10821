"""Builds the data of the training report and the model card."""

import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from windlass.domain.datasets import Histogram, Split
from windlass.domain.specs import Gate, Task
from windlass.domain.training_defaults import plan_training
from windlass.domain.training_report import BaseModelInfo, DatasetInfo, GateResult, KeptWeights, TrainingReport
from windlass.runtime.context import RunContext
from windlass_pipelines.rows import Row
from windlass_pipelines.train.checkpoints import TrainingProgress
from windlass_pipelines.train.tasks import EvaluationResult

_BINS = 24
_LIBRARIES = ("torch", "transformers", "peft", "ray", "safetensors", "windlass")


def environment() -> dict[str, str]:
    """Return the versions of Python and the libraries."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def lengths_histogram(lengths: Sequence[int]) -> Histogram:
    """Return a histogram of the number of tokens per row."""
    counts, edges = np.histogram(lengths, bins=min(_BINS, max(1, max(lengths) - min(lengths))))
    return Histogram(edges=tuple(float(edge) for edge in edges), counts=tuple(int(count) for count in counts))


def describe_dataset(
    context: RunContext, rows: Mapping[Split, Sequence[Row]], lengths: Mapping[Split, Sequence[int]], truncated: int
) -> DatasetInfo:
    """Describe the dataset version. ``lengths`` are tokens per row."""
    accepted = context.inputs.dataset_version
    name, _, number = (accepted if "@" in accepted else context.spec.dataset).partition("@")
    labels: dict[Split, dict[str, int]] = {}
    if context.spec.task is Task.TEXT_CLASSIFICATION:
        labels = {split: dict(Counter(row["label"] for row in content)) for split, content in rows.items()}
    return DatasetInfo(
        name=name,
        version=int(number or 0),
        version_id=accepted,
        steps=context.inputs.dataset_steps,
        rows={split: len(content) for split, content in rows.items()},
        labels=labels,
        tokens={split: lengths_histogram(tokens) for split, tokens in lengths.items() if tokens},
        truncated=truncated,
    )


def gate_results(gates: Sequence[Gate], metrics: Mapping[str, float]) -> tuple[GateResult, ...]:
    """Evaluate the gates; a gate on a missing metric does not pass."""
    return tuple(
        GateResult(
            gate=gate, value=metrics.get(gate.metric), passed=gate.is_met(metrics.get(gate.metric, float("nan")))
        )
        for gate in gates
    )


@dataclass(frozen=True)
class TrainingSummary:
    """The inputs and outcome of one attempt."""

    base: BaseModelInfo
    data: DatasetInfo
    progress: TrainingProgress
    evaluation: EvaluationResult
    evaluated_on: Split
    stopped_early: bool
    device: str
    world_size: int
    wall_seconds: float


def _kept(progress: TrainingProgress) -> KeptWeights | None:
    if progress.best is None:
        return None
    losses = [value for _, value in progress.curves.get("eval_loss", [])]
    return KeptWeights(step=progress.best.step, loss=progress.best.loss, last_loss=losses[-1] if losses else math.nan)


def build_report_data(context: RunContext, summary: TrainingSummary) -> TrainingReport:
    """Return the report data of a finished attempt."""
    spec, progress, evaluation = context.spec, summary.progress, summary.evaluation
    return TrainingReport(
        project=context.identity.project,
        job=context.identity.job,
        model=spec.model,
        task=spec.task,
        finished_at=datetime.now(UTC),
        base_model=summary.base,
        data=summary.data,
        method=spec.method,
        training=plan_training(spec, summary.data.rows[Split.TRAIN], summary.world_size).training,
        steps=progress.step,
        stopped_early=summary.stopped_early,
        world_size=summary.world_size,
        device=summary.device,
        wall_seconds=summary.wall_seconds,
        training_seconds=progress.trained_seconds,
        attempts=progress.attempts,
        environment=environment(),
        curves={name: tuple(points) for name, points in progress.curves.items()},
        evaluation=evaluation.metrics,
        evaluation_before=progress.baseline.metrics if progress.baseline else {},
        evaluated_on=summary.evaluated_on,
        kept=_kept(progress),
        baselines=evaluation.baselines,
        unanswered=evaluation.unanswered,
        classes=evaluation.classes,
        confusion=evaluation.confusion,
        mistakes=evaluation.mistakes,
        samples=evaluation.samples,
        gates=gate_results(spec.evaluation.gates, evaluation.metrics),
    )
