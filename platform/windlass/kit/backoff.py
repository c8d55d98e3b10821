"""Exponential back-off with jitter."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Delays in seconds that double from ``first`` to at most ``maximum``.

    ``jitter`` is the part of each delay that is random, from 0 (none) to 1 (full), so that clients that failed at the
    same time do not retry at the same time.
    """

    first: float
    maximum: float
    jitter: float = 0.5

    def delay(self, failures: int) -> float:
        """Return the delay after ``failures`` failures in a row, counted from 1; 0 after none."""
        if failures < 1:
            return 0.0
        # 2.0**1024 overflows; no first delay needs more doublings than this to reach a maximum.
        longest = min(self.maximum, self.first * 2.0 ** min(failures - 1, 60))
        return longest * (1 - self.jitter * random.random())  # noqa: S311 - spreads load, hides nothing
