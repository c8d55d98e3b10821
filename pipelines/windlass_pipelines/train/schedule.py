"""Number of steps, learning rate schedule and early stopping: pure functions, so resuming needs no scheduler state."""

import math
from dataclasses import dataclass

from windlass.domain.specs import EarlyStopping, ResolvedTraining


def total_steps(spec: ResolvedTraining, steps_per_epoch: int) -> int:
    """Return the number of optimizer steps: ``max_steps``, or ``epochs`` rounded up to whole steps."""
    return spec.max_steps or max(1, math.ceil(spec.epochs * steps_per_epoch))


def learning_rate(spec: ResolvedTraining, step: int, total: int) -> float:
    """Return the learning rate of optimizer step ``step``, counted from 1 to ``total``.

    It rises linearly to ``spec.learning_rate`` during the warm-up, then decays to 0 after the last step.
    """
    warmup = int(spec.warmup_ratio * total)
    if step <= warmup:
        return spec.learning_rate * step / warmup
    progress = (step - 1 - warmup) / max(1, total - warmup)
    factor = 1 - progress if spec.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return spec.learning_rate * factor


@dataclass(frozen=True)
class EarlyStoppingState:
    """The lowest validation loss, its step, and the number of validations since then."""

    best_loss: float = math.inf
    best_step: int = 0
    patience_counter: int = 0

    def update(self, loss: float, step: int, rule: EarlyStopping) -> "EarlyStoppingState":
        """Return the state after one more validation; a NaN loss is not an improvement."""
        if loss < self.best_loss - rule.min_delta:
            return EarlyStoppingState(loss, step, 0)
        return EarlyStoppingState(self.best_loss, self.best_step, self.patience_counter + 1)

    def exhausted(self, rule: EarlyStopping) -> bool:
        """Return whether to stop."""
        return self.patience_counter >= rule.patience
