"""Collects what the report and the model card show."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from windlass.domain.datasets import Histogram, Split
from windlass.domain.specs import Gate, Task
from windlass.runtime.context import RunContext
from windlass_pipelines.report.facts import BaseModelFacts, DataFacts, GateVerdict, ReportFacts
from windlass_pipelines.train.checkpoints import Progress
from windlass_pipelines.train.rows import Row
from windlass_pipelines.train.tasks import Judgement

_BINS = 24
_LIBRARIES = ("torch", "transformers", "peft", "ray", "safetensors", "windlass")


def environment() -> dict[str, str]:
    """Return the versions of what made the model."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def lengths_histogram(lengths: Sequence[int]) -> Histogram:
    """Return how many rows have how many tokens."""
    counts, edges = np.histogram(lengths, bins=min(_BINS, max(1, max(lengths) - min(lengths))))
    return Histogram(edges=tuple(float(edge) for edge in edges), counts=tuple(int(count) for count in counts))


def data_facts(
    context: RunContext, rows: Mapping[Split, Sequence[Row]], lengths: Mapping[Split, Sequence[int]], truncated: int
) -> DataFacts:
    """Describe the dataset version. ``lengths`` are the rows' tokens."""
    name, _, number = (context.dataset_version if "@" in context.dataset_version else context.spec.dataset).partition(
        "@"
    )
    labels: dict[Split, dict[str, int]] = {}
    if context.spec.task is Task.TEXT_CLASSIFICATION:
        labels = {split: dict(Counter(str(row["label"]) for row in content)) for split, content in rows.items()}
    return DataFacts(
        name=name,
        version=int(number or 0),
        version_id=context.dataset_version,
        rows={split: len(content) for split, content in rows.items()},
        labels=labels,
        tokens={split: lengths_histogram(found) for split, found in lengths.items() if found},
        truncated=truncated,
    )


def verdicts(gates: Sequence[Gate], metrics: Mapping[str, float]) -> tuple[GateVerdict, ...]:
    """Hold the metrics against the gates; one that was not measured does not pass."""
    return tuple(
        GateVerdict(
            gate=gate, value=metrics.get(gate.metric), passed=gate.holds(metrics.get(gate.metric, float("nan")))
        )
        for gate in gates
    )


@dataclass(frozen=True)
class Story:
    """How an attempt went."""

    base: BaseModelFacts
    data: DataFacts
    progress: Progress
    judgement: Judgement
    evaluated_on: Split
    stopped_early: bool
    device: str
    wall_seconds: float


def report_facts(context: RunContext, story: Story) -> ReportFacts:
    """Put everything together."""
    spec, progress, judgement = context.spec, story.progress, story.judgement
    return ReportFacts(
        project=context.project,
        job=context.job,
        model=spec.model,
        task=spec.task,
        finished_at=datetime.now(UTC),
        base_model=story.base,
        data=story.data,
        method=spec.method,
        training=spec.training,
        steps=progress.step,
        stopped_early=story.stopped_early,
        workers=spec.resources.workers,
        device=story.device,
        wall_seconds=story.wall_seconds,
        training_seconds=progress.trained_seconds,
        attempts=progress.attempts,
        environment=environment(),
        curves={name: tuple(points) for name, points in progress.curves.items()},
        evaluation=judgement.metrics,
        evaluation_before=progress.before.metrics if progress.before else {},
        evaluated_on=story.evaluated_on,
        classes=judgement.classes,
        confusion=judgement.confusion,
        mistakes=judgement.mistakes,
        samples=judgement.samples,
        gates=verdicts(spec.evaluation.gates, judgement.metrics),
    )
