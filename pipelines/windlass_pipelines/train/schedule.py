"""How long training runs and how fast it learns: pure functions of the optimiser step, so resuming needs no state."""

import math
from dataclasses import dataclass

from windlass.domain.specs import EarlyStopping, TrainingSpec


def total_steps(spec: TrainingSpec, steps_per_epoch: int) -> int:
    """Return the number of optimiser steps: ``max_steps``, or the epochs, of which a part counts up to whole steps."""
    return spec.max_steps or max(1, math.ceil(spec.epochs * steps_per_epoch))


def learning_rate(spec: TrainingSpec, step: int, total: int) -> float:
    """Return the rate of optimiser step ``step``, counted from 1 to ``total``.

    It rises linearly over the warm-up, reaches ``spec.learning_rate`` at its end, and falls to 0 after the last step.
    """
    warmup = int(spec.warmup_ratio * total)
    if step <= warmup:
        return spec.learning_rate * step / warmup
    done = (step - 1 - warmup) / max(1, total - warmup)
    left = 1 - done if spec.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return spec.learning_rate * left


@dataclass(frozen=True)
class Patience:
    """Early stopping: the lowest evaluation loss so far, where it was, and how many evaluations came after it."""

    best: float = math.inf
    best_step: int = 0
    waited: int = 0

    def after(self, loss: float, step: int, rule: EarlyStopping) -> "Patience":
        """Return the state after one more evaluation; a loss that is not a number never is an improvement."""
        if loss < self.best - rule.min_delta:
            return Patience(loss, step, 0)
        return Patience(self.best, self.best_step, self.waited + 1)

    def exhausted(self, rule: EarlyStopping) -> bool:
        """Tell whether to stop."""
        return self.waited >= rule.patience
