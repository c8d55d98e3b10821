"""Background loops, one thread each. A loop sleeps until an event or its own deadline."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from windlass.domain.errors import WindlassError
from windlass.kit.backoff import Backoff
from windlass.services.transactions import repeat_on_conflict
from windlass_api.metrics import LOOP_FAILURES, LOOP_SECONDS, TRANSACTION_CONFLICTS

_log = logging.getLogger(__name__)

Loop = Callable[[], float | None]
"""One iteration. Returns the seconds until the loop must run again, None: when it is woken."""

_SCAN_SECONDS = 30.0
"""Every loop runs at least this often, to find what another process or a lost event has left."""
_STALLED_SECONDS = 300.0
"""Longer than any iteration takes; starting Ray takes up to four minutes."""
_BACKOFF = Backoff(first=0.5, maximum=5.0)
_SLOW_SECONDS = 5.0
"""Duration of an iteration after which it is logged: a loop cannot be stopped during an iteration."""


class BackgroundLoops:
    """Runs each loop at start, when it is woken, and at its deadline; an exception is logged, counted and retried."""

    def __init__(self, functions: Mapping[str, Loop]) -> None:
        self._functions = dict(functions)
        self._stopping = threading.Event()
        self._wake_events = {name: threading.Event() for name in functions}
        self._running_since: dict[str, float] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        for name, function in self._functions.items():
            thread = threading.Thread(target=self._loop, args=(name, function), name=f"loop-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        _log.info("background loops started", extra={"loops": ", ".join(self._functions)})

    def stop(self) -> None:
        """Stop the threads after their current iteration."""
        self._stopping.set()
        self.wake(self._functions)
        for thread in self._threads:
            thread.join()
        _log.info("background loops stopped")

    @property
    def names(self) -> list[str]:
        """The names of the loops."""
        return list(self._functions)

    def wake(self, names: Iterable[str]) -> None:
        """Run these loops immediately; one that is running runs again."""
        for name in names:
            self._wake_events[name].set()

    def stall_problem(self) -> str:
        """Return an error message if an iteration of a loop does not end, else an empty string."""
        now = time.monotonic()
        stalled = [name for name, since in list(self._running_since.items()) if now - since > _STALLED_SECONDS]
        return f"worker loop {stalled[0]!r} is stalled" if stalled else ""

    def _loop(self, name: str, function: Loop) -> None:
        delay, failures, wake_event = 0.0, 0, self._wake_events[name]
        on_conflict = TRANSACTION_CONFLICTS.labels("loop").inc
        while not self._stopping.is_set():
            wake_event.wait(delay)
            wake_event.clear()
            started = self._running_since[name] = time.monotonic()
            try:
                wanted = repeat_on_conflict(function, self._stopping.wait, on_conflict)
                delay, failures = _SCAN_SECONDS if wanted is None else min(wanted, _SCAN_SECONDS), 0
            except Exception as error:  # noqa: BLE001 - a failed iteration must not end the loop
                LOOP_FAILURES.labels(name).inc()
                expected = isinstance(error, WindlassError)
                extra = {"loop": name, "error": str(error)}
                _log.error("worker loop failed", extra=extra, exc_info=None if expected else error)
                failures += 1
                delay = 0.0
            del self._running_since[name]
            seconds = time.monotonic() - started
            LOOP_SECONDS.labels(name).observe(seconds)
            if seconds > _SLOW_SECONDS:
                _log.warning("worker loop step is slow", extra={"loop": name, "seconds": round(seconds, 1)})
            self._stopping.wait(_BACKOFF.delay(failures))
