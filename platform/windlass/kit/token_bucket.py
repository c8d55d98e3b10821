"""Token buckets: a rate with a burst, for each of many callers."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_SWEEP_SIZE = 1024
"""Number of buckets beyond which the full ones are removed, as often as the number has doubled."""


@dataclass(frozen=True)
class BucketState:
    """A bucket after a request."""

    capacity: int
    """Tokens of a full bucket."""
    remaining: int
    """Whole tokens that are left."""
    retry_seconds: float
    """Time until a refused request gets a token, else 0."""
    full_seconds: float
    """Time until the bucket is full."""

    @property
    def allowed(self) -> bool:
        """Whether the request got a token."""
        return not self.retry_seconds


class TokenBuckets:
    """A bucket of ``rate * burst_seconds`` tokens for each key, refilled with ``rate`` tokens a second. Thread-safe.

    A bucket is stored as the time at which it is full again, so that a full one needs no memory.
    """

    def __init__(self, rate: float, burst_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``rate``: positive; the capacity is at least one token."""
        self._interval = 1.0 / rate
        self._capacity = max(1, round(rate * burst_seconds))
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}
        self._sweep_size = _SWEEP_SIZE

    def __len__(self) -> int:
        """Return the number of buckets in memory."""
        return len(self._full_at)

    def take(self, key: str) -> BucketState:
        """Take a token of a bucket, if it has one. A refused request takes none."""
        with self._lock:
            now = self._clock()
            full_seconds = max(self._full_at.get(key, now) - now, 0.0) + self._interval
            over = full_seconds - self._capacity * self._interval
            # Sums of a float are inexact: without the tolerance the last token of a bucket may be missing.
            if over > self._interval * 1e-6:
                return BucketState(self._capacity, 0, over, full_seconds - self._interval)
            self._full_at[key] = now + full_seconds
            if len(self._full_at) > self._sweep_size:
                self._remove_full(now)
        remaining = math.floor(self._capacity - full_seconds / self._interval + 1e-6)
        return BucketState(self._capacity, max(0, remaining), 0.0, full_seconds)

    def _remove_full(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        self._sweep_size = max(_SWEEP_SIZE, 2 * len(self._full_at))
