"""The training report: ``report.json`` of a model version, and the input of ``report.html`` and of the model card.

Sizes are not limited here, so that collecting the data cannot fail a successful training: the renderer shows the first
entries of each list and truncates long texts.
"""

import json
import math
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from windlass.domain.datasets import CleaningStep, Histogram, Split
from windlass.domain.errors import InvalidError
from windlass.domain.jobs import DomainModel
from windlass.domain.reports import JobWarning
from windlass.domain.specs import Gate, Method, ResolvedTraining, Task

REPORT_NAME = "report.json"
HTML_NAME = "report.html"
REPORT_FORMAT: Literal[1] = 1
"""Version of the format of ``report.json``; every change of the fields increases it."""


def _nan_of_null(value: Any) -> Any:
    return math.nan if value is None else value


NullableFloat = Annotated[float, BeforeValidator(_nan_of_null)]
"""A number that JSON holds as null when it is not finite."""
Curve = tuple[tuple[int, NullableFloat], ...]
"""(optimizer step, value) in step order; NaN and infinity are drawn as gaps."""


class BaseModelInfo(DomainModel):
    """The base model. ``licence`` is an SPDX identifier, empty when unknown."""

    name: str
    """Name in the catalogue."""
    licence: str = ""
    """SPDX identifier; empty when unknown."""
    pooling: str = Field(default="", description="what a classification head reads; empty for chat")
    parameters: int = Field(ge=0, description="total parameters, including the task head")
    trainable: int = Field(ge=0, description="trainable parameters")


class DatasetInfo(DomainModel):
    """The dataset version used for training and evaluation."""

    name: str
    """Name of the dataset."""
    version: int
    """Number of the version."""
    version_id: str
    """Reference of the version, `name@number`."""
    rows: dict[Split, int]
    """Rows that were used, by split."""
    labels: dict[Split, dict[str, int]] = Field(default_factory=dict, description="rows per label; empty for chat")
    tokens: dict[Split, Histogram] = Field(default_factory=dict, description="row lengths before truncation")
    truncated: int = Field(default=0, ge=0, description="rows longer than max_length")
    steps: tuple[CleaningStep, ...] = Field(default=(), description="steps that made it from the uploaded rows")
    skipped: dict[Split, int] = Field(
        default_factory=dict, description="rows with a missing text, label or answer; not counted in rows"
    )
    dropped: dict[Split, int] = Field(
        default_factory=dict, description="rows without a target within max_length; not counted in rows"
    )
    also_trained_on: int = Field(default=0, ge=0, description="rows of the final evaluation that are training rows too")


class ClassScore(DomainModel):
    """Scores of one class on the held-out split."""

    precision: float
    """Share of predictions of this label that are correct."""
    recall: float
    """Share of rows with this label that are found."""
    f1: float
    """Harmonic mean of precision and recall."""
    support: int = Field(ge=0, description="held-out rows with this label")


class ConfusionMatrix(DomainModel):
    """``counts[i][j]``: held-out rows with label ``labels[i]`` and prediction ``labels[j]``."""

    labels: tuple[str, ...]
    """The labels in the order of rows and columns."""
    counts: tuple[tuple[int, ...], ...]
    """One list per true label."""


class Mistake(DomainModel):
    """A misclassified held-out row; ordered by descending loss."""

    text: str
    """Text of the row."""
    expected: str
    """Label of the row."""
    predicted: str
    """Label that the model predicts."""
    confidence: float | None = Field(default=None, description="probability of the predicted label")
    loss: float | None = None


class ChatSample(DomainModel):
    """One held-out conversation: expected answer, answer of the base model, answer of the fine-tuned model."""

    prompt: str
    """The last message of the user."""
    expected: str
    """Answer in the dataset."""
    before: str | None = Field(default=None, description="answer of the base model; None when not generated")
    after: str
    """Answer of the fine-tuned model."""
    exact: bool = Field(description="after equals expected, as exact_answer_rate counts")


class GateResult(DomainModel):
    """Result of one gate; ``value`` is None when the metric was not measured."""

    gate: Gate
    """The condition."""
    value: float | None
    """The measured value; null: not measured."""
    passed: bool
    """Whether the condition holds."""


class KeptWeights(DomainModel):
    """The step whose weights are registered, its evaluation loss, and that of the last step."""

    step: int
    """Optimizer step."""
    loss: NullableFloat
    """Evaluation loss after it."""
    last_loss: NullableFloat
    """Evaluation loss after the last step."""


class TrainingReport(DomainModel):
    """All data of the report. ``evaluation`` uses the metric names of gates: ``weighted_f1``, ``eval_loss``, ..."""

    format: Literal[1] = Field(default=REPORT_FORMAT, description="version of this format")
    project: str
    """Name of the project."""
    job: str
    """Id of the job."""
    model: str
    """Name of the model."""
    task: Task
    """Task of the model."""
    finished_at: datetime
    """When the training ended."""
    base_model: BaseModelInfo
    """What was fine-tuned."""
    data: DatasetInfo
    """What it was trained and evaluated on."""
    method: Method
    """How it was fine-tuned."""
    training: ResolvedTraining
    """Hyperparameters, with the defaults that were chosen."""
    steps: int = Field(ge=0, description="optimizer steps of all attempts")
    stopped_early: bool = False
    """Whether early stopping ended the training."""
    world_size: int = 1
    """Number of training processes."""
    device: str = Field(default="cpu", description="device of a process, e.g. 'cpu' or the GPU name")
    wall_seconds: float = Field(ge=0, description="since the start of the first attempt, including waits")
    training_seconds: float = Field(ge=0, description="sum over all attempts")
    attempts: int = Field(default=1, ge=1)
    environment: dict[str, str] = Field(default_factory=dict, description="versions: python, torch, transformers, ...")
    curves: dict[str, Curve] = Field(
        default_factory=dict, description="by name as reported: train_loss, eval_loss, ..."
    )
    evaluation: dict[str, float] = Field(default_factory=dict)
    """Metrics of the registered model."""
    evaluation_before: dict[str, float] = Field(default_factory=dict, description="the same for the base model")
    evaluated_on: Split = Split.VALIDATION
    """Split of the final evaluation."""
    kept: KeptWeights | None = Field(default=None, description="None when the job keeps the last weights")
    baselines: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="metrics of simple models on the same rows, by name of the model"
    )
    unanswered: int = Field(default=0, ge=0, description="chat: evaluated rows whose prompt is too long to be answered")
    warnings: tuple[JobWarning, ...] = ()
    """What the user of the model should know."""
    classes: dict[str, ClassScore] = Field(default_factory=dict)
    """Scores by label; empty for chat."""
    confusion: ConfusionMatrix | None = None
    """Predictions by true label; null for chat."""
    mistakes: tuple[Mistake, ...] = ()
    """Misclassified rows with the highest loss."""
    samples: tuple[ChatSample, ...] = ()
    """Answers to evaluated conversations."""
    gates: tuple[GateResult, ...] = ()
    """Results of the gates of the job."""

    @property
    def passed(self) -> bool:
        """Whether every gate passed; true without gates."""
        return all(verdict.passed for verdict in self.gates)


def parse_report(content: bytes) -> TrainingReport:
    """Read ``report.json``.

    Raises:
        InvalidError: it is not a report, or its format is another one than ``REPORT_FORMAT``.
    """
    try:
        document = json.loads(content)
    except ValueError as error:
        raise InvalidError(f"{REPORT_NAME} is not JSON: {error}") from None
    found = document.get("format") if isinstance(document, dict) else None
    if found != REPORT_FORMAT:
        raise InvalidError(
            f"{REPORT_NAME} has format {found!r}; this version of windlass reads format {REPORT_FORMAT}",
            hint="use the version of windlass that wrote the report, or read its report.html",
        )
    try:
        return TrainingReport.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidError(f"{REPORT_NAME} is invalid: {where}: {first['msg']}") from None
