"""When a lease is held, and when that of another holder is over: by the clock of this process only."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from windlass.kit.boot_time import boot_seconds

_RENEW_DEADLINE_RATIO = 2 / 3
"""Fraction of the lease duration without a renewal after which the holder stops writing: a margin for writes in flight,
which ends before another candidate can acquire the lease."""


class LeaseObserver:
    """Measures, on the clock of this process, how long the holder of a lease has not renewed it.

    A holder renews its lease by changing a value in the database, such as a counter. An observer that has seen the same
    value for the duration of the lease may take the lease over. No time is stored or compared between machines, so a
    jump of a wall clock neither ends a lease nor prolongs it.

    The observer starts to measure when it first sees a value, so after a restart a lease is held for its full duration
    again.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._observed: OrderedDict[Hashable, tuple[Hashable, float]] = OrderedDict()
        self._lock = threading.Lock()

    def seconds_unchanged(self, key: Hashable, value: Hashable, now: float) -> float:
        """Return for how long ``key`` has had this value; 0 when it is seen for the first time.

        ``now``: the clock of this process, in seconds since boot.
        """
        with self._lock:
            known = self._observed.get(key)
            if known is None or known[0] != value:
                known = self._observed[key] = (value, now)
            self._observed.move_to_end(key)
            if len(self._observed) > self._capacity:
                self._observed.popitem(last=False)  # seen again, its lease only lasts longer
            return now - known[1]

    def forget(self, key: Hashable) -> None:
        """Drop what is known of a lease that has ended."""
        with self._lock:
            self._observed.pop(key, None)


class LeaseTimer:
    """Times one lease of ``seconds``, for its holder and for a candidate, which observes the holder."""

    def __init__(self, seconds: float, clock: Callable[[], float] = boot_seconds) -> None:
        self.seconds, self._clock = seconds, clock
        self._renewed_at = -math.inf
        self._observer = LeaseObserver()

    def now(self) -> float:
        """Return the time, to pass to ``renewed`` later."""
        return self._clock()

    def renewed(self, started: float) -> None:
        """Record a renewal; ``started`` is before the request, since it may have taken effect at any time since."""
        self._renewed_at = started

    def lost(self) -> None:
        """Record that the lease is not held."""
        self._renewed_at = -math.inf

    @property
    def valid(self) -> bool:
        """Whether the lease is held and was renewed in time to write."""
        return self._clock() < self._renewed_at + self.seconds * _RENEW_DEADLINE_RATIO

    def renewal_due(self, renewals: int) -> bool:
        """Return whether to renew a lease that is renewed ``renewals`` times within its duration."""
        return self._clock() >= self._renewed_at + self.seconds / renewals

    def has_expired(self, version: Hashable, seconds: float | None = None) -> bool:
        """Observe another holder's lease; return whether its version did not change for its duration."""
        unchanged = self._observer.seconds_unchanged("lease", version, self._clock())
        return unchanged >= (self.seconds if seconds is None else seconds)
