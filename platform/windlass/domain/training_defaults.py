"""Chooses the hyperparameters that a job leaves open, from the size of its data, its task and its method.

A pure function: the API calls it at submission and stores the result in the job; the trainer calls it for specs
that did not pass the API.
"""

import math

from windlass.domain.jobs import DomainModel
from windlass.domain.specs import JobSpec, ResolvedTraining, Task, TrainingSpec
from windlass.kit.numbers import count

_MIN_STEPS = {Task.TEXT_CLASSIFICATION: 400, Task.CHAT: 150}
"""Optimizer steps below which a model of the task usually has not converged."""
_EPOCHS = {Task.TEXT_CLASSIFICATION: (3, 20), Task.CHAT: (3, 10)}
"""The smallest and the largest number of epochs."""
_BATCH_SIZES = ((5_000, 16), (50_000, 32))
_LARGEST_BATCH = 64
_MAX_LENGTH = 128
_LEARNING_RATES = {
    (Task.TEXT_CLASSIFICATION, "full"): 5e-5,
    (Task.TEXT_CLASSIFICATION, "lora"): 5e-4,
    (Task.TEXT_CLASSIFICATION, "head-only"): 5e-3,
    (Task.CHAT, "full"): 2e-5,
    (Task.CHAT, "lora"): 2e-4,
}


class ChosenDefault(DomainModel):
    """One hyperparameter that the job left open, and why it has this value."""

    field: str
    value: float
    reason: str

    def __str__(self) -> str:
        return f"{self.field} = {self.value:g}: {self.reason}"


class TrainingPlan(DomainModel):
    """Hyperparameters without open fields, and those that were chosen."""

    training: ResolvedTraining
    chosen: tuple[ChosenDefault, ...] = ()


def resolve_max_length(training: TrainingSpec, max_positions: int | None = None) -> int:
    """Return the tokens per row; ``max_positions`` is the longest input of the base model, None: not known."""
    return training.max_length or min(_MAX_LENGTH, max_positions or _MAX_LENGTH)


def plan_training(spec: JobSpec, rows: int, world_size: int, max_positions: int | None = None) -> TrainingPlan:
    """Choose the open hyperparameters of a job with ``rows`` training rows and ``world_size`` training processes.

    ``max_positions``: see ``resolve_max_length``.
    """
    training = spec.training
    chosen: list[ChosenDefault] = []
    batch_size = training.batch_size
    if batch_size is None:
        batch_size = _batch_size(rows, world_size, training.gradient_accumulation)
        chosen.append(ChosenDefault(field="batch_size", value=batch_size, reason=f"for {count(rows, 'training row')}"))
    epochs = training.epochs
    if epochs is None:
        steps_per_epoch = max(1, math.ceil(rows / (batch_size * world_size)))
        least, most = _EPOCHS[spec.task]
        epochs = min(most, max(least, math.ceil(_MIN_STEPS[spec.task] / steps_per_epoch)))
        if training.max_steps is None:
            reason = f"{count(steps_per_epoch, 'step')} per epoch, so {count(epochs * steps_per_epoch, 'step')}"
            chosen.append(ChosenDefault(field="epochs", value=epochs, reason=reason))
    learning_rate = training.learning_rate
    if learning_rate is None:
        learning_rate = _LEARNING_RATES[spec.task, spec.method.type]
        reason = f"for method {spec.method.type} and task {spec.task}"
        chosen.append(ChosenDefault(field="learning_rate", value=learning_rate, reason=reason))
    max_length = resolve_max_length(training, max_positions)
    if training.max_length is None and max_length < _MAX_LENGTH:
        chosen.append(ChosenDefault(field="max_length", value=max_length, reason="the longest input of the base model"))
    values = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "max_length": max_length}
    return TrainingPlan(training=ResolvedTraining.model_validate(training.model_dump() | values), chosen=tuple(chosen))


def _batch_size(rows: int, world_size: int, accumulation: int) -> int:
    size = next((size for limit, size in _BATCH_SIZES if rows < limit), _LARGEST_BATCH)
    size = min(size, max(1, rows // world_size))
    return max(1, size // accumulation) * accumulation
