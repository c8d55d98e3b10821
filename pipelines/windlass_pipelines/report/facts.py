"""What a finished training attempt knows about itself: all that the report and the model card show.

Sizes are not limited here: the writer shows the first of each list and cuts long texts, so that collecting facts
cannot fail a training that went well.
"""

from datetime import datetime

from pydantic import Field

from windlass.domain.datasets import Histogram, Split
from windlass.domain.jobs import Fact
from windlass.domain.specs import Gate, Method, Task, TrainingSpec

Curve = tuple[tuple[int, float], ...]
"""(optimiser step, value) in step order; NaN and infinity are drawn as gaps."""


class BaseModelFacts(Fact):
    """The model that was tuned. ``licence`` is an SPDX identifier, empty when it is not known."""

    name: str
    licence: str = ""
    parameters: int = Field(ge=0, description="weights in all, after the task's head was added")
    trainable: int = Field(ge=0, description="weights that the method trains")


class DataFacts(Fact):
    """The dataset version that was trained on and judged by."""

    name: str
    version: int
    version_id: str
    rows: dict[Split, int]
    labels: dict[Split, dict[str, int]] = Field(default_factory=dict, description="rows per label; empty for chat")
    tokens: dict[Split, Histogram] = Field(default_factory=dict, description="row lengths, before cutting")
    truncated: int = Field(default=0, ge=0, description="rows longer than max_length, so cut")


class ClassScore(Fact):
    """Scores of one class on the held-out split."""

    precision: float
    recall: float
    f1: float
    support: int = Field(ge=0, description="held-out rows that carry the label")


class ConfusionMatrix(Fact):
    """``counts[i][j]``: held-out rows labelled ``labels[i]`` that the model calls ``labels[j]``."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Mistake(Fact):
    """A held-out row that the model gets wrong. Give the worst first (highest loss)."""

    text: str
    expected: str
    predicted: str
    confidence: float | None = Field(default=None, description="probability of the predicted label")
    loss: float | None = None


class ChatSample(Fact):
    """One held-out conversation: the answer the data has, the base model's and the tuned model's."""

    prompt: str
    expected: str
    before: str | None = Field(default=None, description="the base model's answer; None when it was not asked")
    after: str
    exact: bool = Field(description="after equals expected, as exact_answer_rate counts")


class GateVerdict(Fact):
    """One gate and what it was held against; ``value`` is None when the metric was not measured."""

    gate: Gate
    value: float | None
    passed: bool


class ReportFacts(Fact):
    """Everything the report shows. ``evaluation`` names metrics as gates do: ``weighted_f1``, ``eval_loss``, ..."""

    project: str
    job: str
    model: str
    task: Task
    finished_at: datetime
    base_model: BaseModelFacts
    data: DataFacts
    method: Method
    training: TrainingSpec
    steps: int = Field(ge=0, description="optimiser steps done, all attempts together")
    stopped_early: bool = False
    workers: int = 1
    device: str = Field(default="cpu", description="what a worker trained on, e.g. 'cpu' or the GPU's name")
    wall_seconds: float = Field(ge=0, description="first claim to report, waiting between attempts included")
    training_seconds: float = Field(ge=0, description="summed over attempts")
    attempts: int = Field(default=1, ge=1)
    environment: dict[str, str] = Field(default_factory=dict, description="versions: python, torch, transformers, ...")
    curves: dict[str, Curve] = Field(
        default_factory=dict, description="by name as reported: train_loss, eval_loss, ..."
    )
    evaluation: dict[str, float] = Field(default_factory=dict)
    evaluation_before: dict[str, float] = Field(default_factory=dict, description="the same, of the untuned base model")
    evaluated_on: Split = Split.VALIDATION
    classes: dict[str, ClassScore] = Field(default_factory=dict)
    confusion: ConfusionMatrix | None = None
    mistakes: tuple[Mistake, ...] = ()
    samples: tuple[ChatSample, ...] = ()
    gates: tuple[GateVerdict, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every gate holds; true when there is none."""
        return all(verdict.passed for verdict in self.gates)
