"""What a caller may ask a job for: the typed JobSpec. No field holds code, a path, a pod spec or an entrypoint."""

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from windlass.domain.ids import MAX_INTEGER, Name


class Spec(BaseModel):
    """Base of every spec: frozen, and an unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(StrEnum):
    """What a model is fine-tuned to do, and so the shape of its dataset rows."""

    TEXT_CLASSIFICATION = "text-classification"
    CHAT = "chat"


class FullMethod(Spec):
    """Train every weight."""

    type: Literal["full"] = "full"


class FrozenBodyMethod(Spec):
    """Train the task's head alone; the body keeps its weights (text classification)."""

    type: Literal["frozen-body"] = "frozen-body"


class LoraMethod(Spec):
    """Low-rank adaptation (Hu et al., 2021) by peft; merged into the weights when the model is saved."""

    type: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0, le=4096, description="scaling numerator: updates are scaled by alpha/rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"


Method = Annotated[FullMethod | FrozenBodyMethod | LoraMethod, Field(discriminator="type")]


class EarlyStopping(Spec):
    """Stop when the evaluation loss has not improved for a number of evaluations."""

    patience: int = Field(default=3, ge=1, le=100, description="evaluations without improvement")
    min_delta: float = Field(default=0.0, ge=0)


class TrainingSpec(Spec):
    """The optimisation: AdamW with warm-up and decay. Sizes are in rows, rates per optimiser step."""

    epochs: float = Field(default=3.0, gt=0, le=1000)
    max_steps: int | None = Field(default=None, ge=1, le=10_000_000, description="optimiser steps; wins over epochs")
    batch_size: int = Field(default=32, ge=1, le=65_536, description="rows per optimiser step and worker")
    gradient_accumulation: int = Field(default=1, ge=1, le=1024, description="micro-batches per optimiser step")
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, description="share of all steps spent warming up")
    schedule: Literal["linear", "cosine"] = "linear"
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 mixed precision where the device has it, else fp32"
    )
    max_length: int = Field(default=128, ge=8, le=131_072, description="tokens per row; longer rows are cut")
    packing: bool = Field(default=False, description="chat: put several rows into one sequence of max_length tokens")
    early_stopping: EarlyStopping | None = None
    eval_every_steps: int | None = Field(default=None, ge=1, le=MAX_INTEGER, description="default: once per epoch")
    checkpoint_every_steps: int = Field(default=50, ge=1, le=MAX_INTEGER)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _accumulation_divides(self) -> Self:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError("batch_size must be a multiple of gradient_accumulation")
        return self


_GATE = re.compile(r"^\s*([a-z][a-z0-9_]*)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*$")


class Gate(Spec):
    """One condition on an evaluation metric, written ``weighted_f1 >= 0.6``."""

    metric: str
    operator: Literal[">=", "<=", ">", "<"]
    threshold: float

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found = _GATE.match(value)
        if found is None:
            raise ValueError("write a gate as METRIC OPERATOR NUMBER, like 'weighted_f1 >= 0.6'")
        return {"metric": found[1], "operator": found[2], "threshold": float(found[3])}

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.threshold:g}"

    def holds(self, value: float) -> bool:
        """Tell whether ``value`` passes; NaN never does."""
        return {
            ">=": value >= self.threshold,
            "<=": value <= self.threshold,
            ">": value > self.threshold,
            "<": value < self.threshold,
        }[self.operator]


class EvaluationSpec(Spec):
    """How the result is judged on the held-out split."""

    gates: tuple[Gate, ...] = Field(default=(), max_length=16)
    max_new_tokens: int = Field(default=64, ge=1, le=4096, description="chat: length of a generated answer")


class ResourcesSpec(Spec):
    """What the job occupies. In a pool without GPUs one CPU slot stands for one GPU."""

    pool: Name = "local"
    workers: int = Field(default=1, ge=1, le=1024)
    gpus_per_worker: int = Field(default=1, ge=1, le=64)

    @property
    def gpus(self) -> int:
        """GPUs (or CPU slots) in all."""
        return self.workers * self.gpus_per_worker


class DeploySpec(Spec):
    """Serve the registered candidate at an endpoint, made if it does not exist."""

    endpoint: Name


DatasetRef = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}(@[1-9][0-9]{0,8})?$")]
"""``name`` (its newest ready version) or ``name@number``."""


class JobSpec(Spec):
    """One fine-tuning request."""

    name: Name | None = Field(default=None, description="a label for people; need not be unique")
    task: Task
    base_model: Name
    dataset: DatasetRef
    method: Method = LoraMethod()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    resources: ResourcesSpec = ResourcesSpec()
    model: Name = Field(description="the model under which the result is registered")
    deploy: DeploySpec | None = None
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="higher starts first; at most the project's priority ceiling"
    )
    max_duration_seconds: int = Field(
        default=86_400, ge=10, le=30 * 86_400, description="training time, summed over attempts"
    )

    @model_validator(mode="after")
    def _fits_task(self) -> Self:
        if self.task is Task.CHAT and self.method.type == "frozen-body":
            raise ValueError("method frozen-body needs a task with a new head; for chat use lora or full")
        if self.task is not Task.CHAT and self.training.packing:
            raise ValueError("training.packing is for chat jobs only")
        return self
