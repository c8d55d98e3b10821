"""Measures what a training process spends its time on, by a clock on the host.

It waits for no device: kernels run on while the host prepares the next batch, so on a GPU ``data_wait`` is an upper
bound, and the time of the steps is counted where the host waits for them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from windlass.domain.reports import PhaseSeconds, PhasesItem

Phase = Literal["training", "data_wait", "loading", "evaluation"]
REPORT_SECONDS: Final = 10.0
STARTED_AT: Final = "started_at"
"""Setting of a training process: the time when its driver began to start, in seconds since 1970."""


class PhaseClock:
    """The seconds of each phase. There is one phase at a time, at first ``loading``."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seconds: dict[Phase, float] = {"training": 0.0, "data_wait": 0.0, "loading": 0.0, "evaluation": 0.0}
        self._phase: Phase = "loading"
        self._since = self._reported_at = now()

    def add_start(self, seconds: float) -> None:
        """Add the time of the start before this clock to ``loading``."""
        self._seconds["loading"] += seconds

    def enter(self, phase: Phase) -> Phase:
        """Begin a phase; return the one that ends."""
        now, before = self._now(), self._phase
        self._seconds[before] += now - self._since
        self._phase, self._since = phase, now
        return before

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Spend a block in a phase, and go on with the one before."""
        before = self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def seconds(self) -> PhaseSeconds:
        """Return the seconds so far."""
        self.enter(self._phase)
        return PhaseSeconds(**self._seconds)

    def report(self) -> PhasesItem:
        """Return the report of the seconds so far."""
        self._reported_at = self._now()
        return PhasesItem(seconds=self.seconds())

    def is_due(self) -> bool:
        """Whether the last report is old."""
        return self._now() - self._reported_at >= REPORT_SECONDS
