"""Pauses the requests to a server that is overloaded or unavailable, and not for single requests that fail."""

import threading
import time
from collections.abc import Callable, Hashable

from windlass.kit.backoff import Backoff

_FAILURE_THRESHOLD = 3
"""Distinct requests that fail consecutively before the server is suspected: a single object may be the cause."""


class CircuitBreaker:
    """Counts the failures of a server since its last success. Thread-safe.

    Callers either pause for the time that ``record_failure`` returns, or ask ``allows_request`` before each request.
    """

    def __init__(self, backoff: Backoff, clock: Callable[[], float] = time.monotonic) -> None:
        """``backoff``: the pauses."""
        self._backoff, self._clock = backoff, clock
        self._lock = threading.Lock()
        self._failed: set[Hashable] = set()
        self._trips = 0
        self._open_until = 0.0

    def record_success(self) -> None:
        """Record a response without a failure of the server: it resets the breaker."""
        with self._lock:
            self._failed.clear()
            self._trips = 0

    def record_failure(self, key: Hashable, retry_after: float | None = None) -> float:
        """Record a failed request; return the seconds for which to pause all requests.

        A Retry-After of the server applies at once. Otherwise the pause grows exponentially with jitter; failures
        during a pause were in flight before it and do not extend it. Equal keys count as one request.
        """
        with self._lock:
            self._failed.add(key)
            now = self._clock()
            if len(self._failed) < _FAILURE_THRESHOLD or now < self._open_until:
                return retry_after or 0.0
            return self._trip(now, retry_after or 0.0)

    def allows_request(self) -> bool:
        """Return whether to send a request. After a pause one request is allowed; it begins the next pause."""
        with self._lock:
            if not self._trips:
                return True
            now = self._clock()
            if now < self._open_until:
                return False
            self._trip(now, 0.0)
            return True

    def _trip(self, now: float, least: float) -> float:
        self._trips += 1
        delay = max(least, self._backoff.delay(self._trips))
        self._open_until = now + delay
        return delay
