"""When it is the API server that cannot, and not one object's own trouble: everybody leaves it alone for a while."""

import random
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from windlass_operators.queue import Key

_FEW = 3
"""Resources that fail one after the other before it is taken for the server's trouble: one webhook may be broken."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0


class Strain:
    """Counts what failed for the server's sake since it last did its part. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._failed: set[Key] = set()
        self._pauses = 0
        self._until = 0.0
        self._clock = clock

    def answered(self, status: int) -> None:
        """Take note of an answer; one that is no trouble ends all that was."""
        if status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS:
            self._failed, self._pauses = set(), 0

    def pause(self, key: Key, retry_after: float | None) -> float:
        """Return how many seconds nobody should ask for anything, after a resource could not be served.

        What the server says itself is obeyed at once. Otherwise pauses double, and no two are the same; what fails
        during a pause was under way when it began.
        """
        self._failed.add(key)
        now = self._clock()
        if len(self._failed) < _FEW or now < self._until:
            return retry_after or 0.0
        self._pauses += 1
        found = max(retry_after or 0.0, _spread(self._pauses))
        self._until = now + found
        return found


class Backoffs:
    """The pauses of a watch that cannot be begun: there is always another one."""

    def __iter__(self) -> Iterator[float]:
        """Yield the pauses of one request."""
        number = 0
        while True:
            number += 1
            yield _spread(number)


def _spread(number: int) -> float:
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(number - 1, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
