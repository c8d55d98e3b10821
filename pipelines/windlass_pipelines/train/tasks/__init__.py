"""The interface between the trainer and a task. A new task is one module and one line in ``adapter_for``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from windlass.domain.specs import JobSpec, Task
from windlass.domain.training_defaults import resolve_max_length
from windlass.domain.training_report import ChatSample, ClassScore, ConfusionMatrix, Mistake
from windlass_pipelines.rows import Row
from windlass_pipelines.train.batches import EncodedExample
from windlass_pipelines.train.distributed import DistributedContext

TensorBatch = dict[str, Tensor]


class EvaluationResult(BaseModel):
    """A model's evaluation on held-out rows: ``metrics`` by gate name, and details for the report."""

    model_config = ConfigDict(frozen=True)
    metrics: dict[str, float]
    not_finite: tuple[str, ...] = ()
    """Metrics that were left out because their value is not a finite number."""
    classes: dict[str, ClassScore] = {}
    confusion: ConfusionMatrix | None = None
    mistakes: tuple[Mistake, ...] = ()
    samples: tuple[ChatSample, ...] = ()
    answers: tuple[str, ...] = ()
    """Chat: the model's answers to the first rows, in row order."""
    baselines: dict[str, dict[str, float]] = {}
    """Metrics of simple models on the same rows, by name of the model."""
    unanswered: int = 0
    """Chat: rows whose prompt is too long to generate an answer; they count in the loss only."""


class TaskAdapter(Protocol):
    """One task: tokenization, batches, loss and evaluation.

    ``validate``, ``evaluate_baseline`` and ``evaluate`` are called on every rank with the same rows, split the work
    over the ranks and return the same result on each.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs; empty for tasks without classes."""
        ...

    def load(self, folder: Path) -> nn.Module:
        """Load the model in fp32 from a verified base model folder; a new head is drawn from torch's generator."""
        ...

    def encode(self, rows: Sequence[Row]) -> tuple[list[EncodedExample], int]:
        """Tokenize; returns one example per row and the number of examples truncated to ``max_length``.

        An example whose ``weight`` is 0 has nothing to learn or to evaluate; the caller drops its row and counts it.
        """
        ...

    def prepare_examples(self, examples: Sequence[EncodedExample]) -> list[EncodedExample]:
        """Return the examples to train on, packed if the task does so."""
        ...

    def collate(self, examples: Sequence[EncodedExample]) -> TensorBatch:
        """Pad to the longest example; returns CPU tensors of shape (rows, tokens)."""
        ...

    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """Return the loss summed over the targets, a scalar."""
        ...

    def selection_score(self, scores: Mapping[str, float]) -> float:
        """Return the number by which the best evaluation is chosen from those of ``validate``; higher is better."""
        ...

    def validate(
        self, model: nn.Module, examples: Sequence[EncodedExample], dist: DistributedContext
    ) -> dict[str, float]:
        """Return inexpensive metrics during training, including ``loss``, the mean over the targets."""
        ...

    def evaluate_baseline(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[EncodedExample], dist: DistributedContext
    ) -> EvaluationResult | None:
        """Evaluate the untuned model, or return None where that is not meaningful."""
        ...

    def evaluate(
        self,
        model: nn.Module,
        rows: Sequence[Row],
        examples: Sequence[EncodedExample],
        dist: DistributedContext,
        baseline: EvaluationResult | None,
    ) -> EvaluationResult:
        """Evaluate the tuned model in full."""
        ...

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write safetensors weights, configuration and tokenizer."""
        ...


def to_device(batch: TensorBatch, device: torch.device) -> TensorBatch:
    """Move every tensor."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def adapter_for(spec: JobSpec, base_model: Path, training_rows: Sequence[dict[str, Any]]) -> TaskAdapter:
    """Return the adapter of the job's task."""
    # imported here: the task modules import this one
    from windlass_pipelines.train.tasks.chat import ChatTask  # noqa: PLC0415 - see above
    from windlass_pipelines.train.tasks.text_classification import TextClassificationTask  # noqa: PLC0415 - see above

    max_length = resolve_max_length(spec.training)
    match spec.task:
        case Task.TEXT_CLASSIFICATION:
            return TextClassificationTask.from_rows(base_model, training_rows, max_length)
        case Task.CHAT:
            return ChatTask(base_model, max_length, spec.evaluation.max_new_tokens, packing=spec.training.packing)
