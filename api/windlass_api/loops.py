"""What a worker does over and over, each in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from windlass.domain.errors import WindlassError
from windlass_api.metrics import LOOP_FAILURES

_log = logging.getLogger(__name__)

_STALLED_SECONDS = 60.0
_LONGEST_PAUSE = 5.0


class Loops:
    """Gives each loop a turn every ``tick`` seconds, and all of them one at once when a turn has changed something.

    A turn tells whether it has changed what another loop may wait for. One that fails is logged, counted and tried
    again after a pause.
    """

    def __init__(self, turns: Mapping[str, Callable[[], bool]], tick: float) -> None:
        self._turns, self._tick = dict(turns), tick
        self._stopping = threading.Event()
        self._nudges = {name: threading.Event() for name in turns}
        self._turned: dict[str, float] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        for name, turn in self._turns.items():
            self._turned[name] = time.monotonic()
            thread = threading.Thread(target=self._loop, args=(name, turn), name=f"worker-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End; each loop finishes its turn."""
        self._stopping.set()
        self.nudge()
        for thread in self._threads:
            thread.join()

    def nudge(self) -> None:
        """Let every loop look at once."""
        for nudge in self._nudges.values():
            nudge.set()

    def stalled(self) -> str:
        """Return which loop has not turned for a minute, or an empty string."""
        late = [name for name, at in self._turned.items() if time.monotonic() - at > _STALLED_SECONDS]
        return f"the worker's loop {late[0]} does not turn" if late else ""

    def _loop(self, name: str, turn: Callable[[], bool]) -> None:
        pause, nudged = self._tick, self._nudges[name]
        while not self._stopping.is_set():
            nudged.wait(pause)
            nudged.clear()
            try:
                if turn():
                    self.nudge()
                pause = self._tick
            except Exception as error:  # noqa: BLE001 - one bad turn must not end the loop; it is logged and counted
                LOOP_FAILURES.labels(name).inc()
                known = isinstance(error, WindlassError)
                facts = {"loop": name, "error": str(error)}
                _log.error("worker turn failed", extra=facts, exc_info=None if known else error)
                pause = min(_LONGEST_PAUSE, pause * 2)
            self._turned[name] = time.monotonic()
