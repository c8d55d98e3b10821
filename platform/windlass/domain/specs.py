"""The typed JobSpec. No field accepts code, a path, a pod spec or an entrypoint."""

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from windlass.domain.ids import MAX_INTEGER, Name
from windlass.domain.text import DisplayName, EventCode


class Spec(BaseModel):
    """Base of every spec: immutable; unknown keys, infinity and NaN are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Task(StrEnum):
    """The task of a model; it determines the row format of its datasets."""

    TEXT_CLASSIFICATION = "text-classification"
    CHAT = "chat"


GATE_METRICS: dict[Task, tuple[str, ...]] = {
    Task.TEXT_CLASSIFICATION: (
        "accuracy",
        "precision",
        "recall",
        "weighted_f1",
        "macro_f1",
        "eval_loss",
        "margin_over_baseline",
    ),
    Task.CHAT: ("perplexity", "exact_answer_rate", "eval_loss", "margin_over_baseline"),
}
"""The metrics of the final evaluation of each task; a gate is a condition on one of them.

``margin_over_baseline`` is positive if the model is better than the baselines on the same rows. Classification: its
weighted F1 minus the best one of the simple models. Chat: the base model's evaluation loss minus its own.
"""


class FullMethod(Spec):
    """Train all weights."""

    type: Literal["full"] = "full"
    """Train all weights."""


class HeadOnlyMethod(Spec):
    """Train only the classification head; the encoder is frozen (text classification)."""

    type: Literal["head-only"] = "head-only"
    """Train only the classification head."""


ModulePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){0,31}$", max_length=200)]
"""A module of a model, or the end of its dotted path: ``q_proj``, ``attention.self.query``."""


class LoraMethod(Spec):
    """Low-rank adaptation (Hu et al., 2021) with peft; merged into the weights when the model is saved."""

    type: Literal["lora"] = "lora"
    """Train low-rank matrices."""
    rank: int = Field(default=16, ge=1, le=512)
    """Rank of the matrices."""
    alpha: float = Field(default=32.0, gt=0, le=4096, description="scaling numerator: updates are scaled by alpha/rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout probability of the adapter's input."""
    target_modules: Literal["all-linear"] | Annotated[tuple[ModulePath, ...], Field(min_length=1, max_length=256)] = (
        "all-linear"
    )
    """Modules to adapt: all linear ones, or names."""


Method = Annotated[FullMethod | HeadOnlyMethod | LoraMethod, Field(discriminator="type")]


class EarlyStopping(Spec):
    """Stop when the evaluation loss has not improved for ``patience`` evaluations."""

    patience: int = Field(default=3, ge=1, le=100, description="evaluations without improvement")
    min_delta: float = Field(default=0.0, ge=0)
    """Smallest decrease of the loss that counts as an improvement."""


class TrainingSpec(Spec):
    """Hyperparameters: AdamW with warm-up and decay. Sizes are in rows, rates per optimizer step.

    Epochs, batch size, learning rate and length are chosen from the size of the data, the task, the method and the base
    model when they are not set; a dry run shows them with the reasons.
    """

    epochs: float | None = Field(
        default=None, gt=0, le=1000, description="default: 3 or more, so that small data gets some hundred steps"
    )
    max_steps: int | None = Field(default=None, ge=1, le=10_000_000, description="optimizer steps; overrides epochs")
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="rows per optimizer step and training process; default: 16 to 64, by rows",
    )
    gradient_accumulation: int = Field(default=1, ge=1, le=1024, description="micro-batches per optimizer step")
    learning_rate: float | None = Field(default=None, gt=0, le=1, description="peak; default: by task and method")
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """Decoupled weight decay."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, description="fraction of all steps used for warm-up")
    schedule: Literal["linear", "cosine"] = "linear"
    """Decay of the learning rate after the warm-up."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Norm that gradients are clipped to."""
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 mixed precision where the device supports it, else fp32"
    )
    max_length: int | None = Field(
        default=None,
        ge=8,
        le=131_072,
        description="tokens per row; longer rows are truncated; default: 128, or the base model's limit if lower",
    )
    packing: bool = Field(default=False, description="chat: pack several rows into one sequence of max_length tokens")
    keep: Literal["best", "last"] = Field(
        default="best",
        description="weights to register: best is the evaluation during training with the highest weighted F1 (text"
        " classification) or the lowest loss (chat)",
    )
    early_stopping: EarlyStopping | None = None
    """Stop without improvement; null: train to the end."""
    eval_every_steps: int | None = Field(default=None, ge=1, le=MAX_INTEGER, description="default: once per epoch")
    checkpoint_every_steps: int = Field(default=50, ge=1, le=MAX_INTEGER)
    """Optimizer steps between checkpoints."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of all random numbers."""

    @model_validator(mode="after")
    def _accumulation_divides(self) -> Self:
        if self.batch_size is not None and self.batch_size % self.gradient_accumulation:
            raise ValueError("batch_size must be a multiple of gradient_accumulation")
        return self


class ResolvedTraining(TrainingSpec):
    """Hyperparameters without open fields (``windlass.domain.training_defaults``)."""

    epochs: float
    batch_size: int
    learning_rate: float
    max_length: int


_GATE = re.compile(r"^\s*([a-z][a-z0-9_]*)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*$")


class Gate(Spec):
    """One condition on an evaluation metric, written ``weighted_f1 >= 0.6``.

    ``beats_baseline`` is short for ``margin_over_baseline > 0``.
    """

    metric: EventCode
    """Name of a metric of the evaluation."""
    operator: Literal[">=", "<=", ">", "<"]
    """Comparison that must hold."""
    threshold: float
    """Number that the metric is compared with."""

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        match = _GATE.match("margin_over_baseline > 0" if value.strip() == "beats_baseline" else value)
        if match is None:
            raise ValueError("write a gate as METRIC OPERATOR NUMBER, like 'weighted_f1 >= 0.6', or beats_baseline")
        return {"metric": match[1], "operator": match[2], "threshold": float(match[3])}

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.threshold:g}"

    def is_met(self, value: float) -> bool:
        """Return whether ``value`` passes; NaN never passes."""
        return {
            ">=": value >= self.threshold,
            "<=": value <= self.threshold,
            ">": value > self.threshold,
            "<": value < self.threshold,
        }[self.operator]


class EvaluationSpec(Spec):
    """Evaluation of the result on the held-out split."""

    gates: tuple[Gate, ...] = Field(default=(), max_length=16)
    """Conditions for a candidate, such as ``weighted_f1 >= 0.6``."""
    max_new_tokens: int = Field(default=64, ge=1, le=4096, description="chat: length of a generated answer")


class ResourcesSpec(Spec):
    """Resources of the job, which has a training process for each GPU.

    In a pool without GPUs, one CPU slot counts as one GPU; there each worker is one process, and its slots are threads.
    """

    pool: Name = "local"
    """Pool to run in."""
    workers: int = Field(default=1, ge=1, le=1024)
    """Number of workers; in a cluster each is a pod, so its GPUs are on one node."""
    gpus_per_worker: int = Field(default=1, ge=1, le=64)
    """GPUs (or CPU slots) of each worker."""

    @property
    def gpus(self) -> int:
        """Total GPUs (or CPU slots)."""
        return self.workers * self.gpus_per_worker

    def world_size(self, *, has_gpus: bool) -> int:
        """Return the number of training processes in a pool that counts GPUs, or CPU slots."""
        return self.gpus if has_gpus else self.workers


class DeploySpec(Spec):
    """Serve the registered candidate at an endpoint; it is created if it does not exist."""

    endpoint: Name
    """Name of the endpoint."""


DatasetRef = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}(@[1-9][0-9]{0,8})?$")]
"""``name`` (its newest ready version) or ``name@number``."""


class JobSpec(Spec):
    """One fine-tuning request."""

    name: DisplayName | None = Field(default=None, description="display name, one line of text; need not be unique")
    task: Task
    """Task of the model."""
    base_model: Name
    """Base model to start from."""
    dataset: DatasetRef
    """Dataset to train on, ``name`` or ``name@number``."""
    method: Method = LoraMethod()
    """Which weights are trained."""
    training: TrainingSpec = TrainingSpec()
    """Hyperparameters."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Evaluation of the result."""
    resources: ResourcesSpec = ResourcesSpec()
    """Where and on how many GPUs it runs."""
    purpose: Name | None = Field(default=None, description="what the model is for; a dataset may restrict its purposes")
    model: Name = Field(description="model under which the result is registered")
    deploy: DeploySpec | None = None
    """Endpoint that serves the result; null: none."""
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="higher starts first; at most the project's priority ceiling"
    )
    max_duration_seconds: int = Field(
        default=86_400, ge=10, le=30 * 86_400, description="training time, summed over attempts"
    )

    @model_validator(mode="after")
    def _fits_task(self) -> Self:
        if self.task is Task.CHAT and self.method.type == "head-only":
            raise ValueError("method head-only needs a classification head; for chat use lora or full")
        if self.task is not Task.CHAT and self.training.packing:
            raise ValueError("training.packing is for chat jobs only")
        known = GATE_METRICS[self.task]
        for number, gate in enumerate(self.evaluation.gates):
            if gate.metric not in known:
                raise ValueError(
                    f"evaluation.gates.{number}: {gate.metric} is not a metric of {self.task}; use {', '.join(known)}"
                )
        return self
