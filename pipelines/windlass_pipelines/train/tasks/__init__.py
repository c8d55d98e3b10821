"""What the training loop needs to know of a task. A new task is one file here and one line in ``adapter_for``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from windlass.domain.specs import JobSpec, Task
from windlass_pipelines.report.facts import ChatSample, ClassScore, ConfusionMatrix, Mistake
from windlass_pipelines.train.batches import Example
from windlass_pipelines.train.collective import Ranks
from windlass_pipelines.train.rows import Row

TensorBatch = dict[str, Tensor]


class Judgement(BaseModel):
    """A model's evaluation on held-out rows: ``metrics`` by the names that gates use, and what the report shows."""

    model_config = ConfigDict(frozen=True)
    metrics: dict[str, float]
    classes: dict[str, ClassScore] = {}
    confusion: ConfusionMatrix | None = None
    mistakes: tuple[Mistake, ...] = ()
    samples: tuple[ChatSample, ...] = ()
    answers: tuple[str, ...] = ()
    """Chat: what the model answered to the first rows, in row order."""


class TaskAdapter(Protocol):
    """One task: from rows to tensors to a loss, and how a model is judged.

    ``evaluate`` and ``judge`` are called on every rank with the same rows, share the work and return the same.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs; empty where there are none."""
        ...

    def load(self, folder: Path) -> nn.Module:
        """Build the model in fp32 from a verified base model folder, a new head drawn from torch's generator."""
        ...

    def encode(self, rows: Sequence[Row]) -> tuple[list[Example], int]:
        """Tokenise; returns one example per row and how many were cut to ``max_length``."""
        ...

    def arrange(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples as they are trained on: the same, or packed."""
        ...

    def collate(self, examples: Sequence[Example]) -> TensorBatch:
        """Pad to the longest and stack: tensors of shape (rows, tokens) on the CPU."""
        ...

    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """Return the loss summed over the targets that count; a scalar."""
        ...

    def evaluate(self, model: nn.Module, examples: Sequence[Example], ranks: Ranks) -> dict[str, float]:
        """Return cheap metrics while training goes on, among them ``loss``, the mean over targets."""
        ...

    def before(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[Example], ranks: Ranks
    ) -> Judgement | None:
        """Judge the untuned model, where that says something and costs little."""
        ...

    def judge(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[Example], ranks: Ranks, before: Judgement | None
    ) -> Judgement:
        """Judge the tuned model in full."""
        ...

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write weights (safetensors), configuration and tokenizer."""
        ...


def to_device(batch: TensorBatch, device: torch.device) -> TensorBatch:
    """Move every tensor."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def adapter_for(spec: JobSpec, base_model: Path, training_rows: Sequence[dict[str, Any]]) -> TaskAdapter:
    """Return the adapter of the job's task."""
    # imported here: chat pulls in generation code that a classification job does not need at start-up
    from windlass_pipelines.train.tasks.chat import Chat  # noqa: PLC0415 - imported when used: it is slow to load
    from windlass_pipelines.train.tasks.text_classification import TextClassification  # noqa: PLC0415 - imported when used: it is slow to load

    match spec.task:
        case Task.TEXT_CLASSIFICATION:
            return TextClassification.from_rows(base_model, training_rows, spec.training.max_length)
        case Task.CHAT:
            return Chat(
                base_model, spec.training.max_length, spec.evaluation.max_new_tokens, packing=spec.training.packing
            )
