"""The work that waits: each resource at most once, never twice at a time, again after a pause when it failed.

Events only wake it. A resource that is asked for while it is being worked on has another turn afterwards, so that no
change falls between a reading and a writing.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from windlass.kube.objects import Kind
from windlass_operators.metrics import WAITING

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_BEAT = 5.0


class Key(NamedTuple):
    """A resource to reconcile."""

    kind: Kind
    name: str
    namespace: str | None = None


class Queue:
    """Hands keys to ``work``, which returns seconds until it wants to look again, or None."""

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        failed: Callable[[Key, Exception], float | None],
        workers: int,
        beat: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        spacing: float = 0.0,
    ) -> None:
        """``spacing``: seconds that lie at least between the beginnings of two turns that ``wake`` asks for."""
        self._work, self._failed, self._workers, self._beat, self._clock = work, failed, workers, beat, clock
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._spacing = spacing
        self._began: dict[Key, float] = {}
        """When the turns of the last ``spacing`` seconds began, oldest first."""
        self._held_until = -math.inf
        self._wake = asyncio.Event()

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Ask for a turn, not before ``delay`` seconds; an earlier turn that is asked for already stands."""
        due = self._clock() + delay
        self._due[key] = min(due, self._due.get(key, due))
        self._wake.set()

    def wake(self, key: Key) -> None:
        """Ask for a turn because something changed: at once after a rest, and later in a swarm of changes."""
        self.add(key, max(0.0, self._began.get(key, -math.inf) + self._spacing - self._clock()))

    def hold(self, seconds: float) -> None:
        """Begin no turn for so many seconds, whoever asks for one."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._start_due()
                WAITING.set(len(self._due))
                self._beat()
                await self._sleep()
        finally:
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _start_due(self) -> None:
        now = self._clock()
        while self._began and next(iter(self._began.values())) + self._spacing <= now:
            del self._began[next(iter(self._began))]
        if now < self._held_until:
            return
        ready = [key for key, due in self._due.items() if due <= now and key not in self._running]
        for key in sorted(ready, key=self._due.__getitem__)[: self._workers - len(self._running)]:
            del self._due[key]
            self._began.pop(key, None)
            self._began[key] = now
            task = asyncio.create_task(self._turn(key), name=f"reconcile {key.kind} {key.name}")
            self._running[key] = task

    async def _sleep(self) -> None:
        free = len(self._running) < self._workers
        next_due = min((due for key, due in self._due.items() if free and key not in self._running), default=None)
        soonest = math.inf if next_due is None else max(next_due, self._held_until)
        pause = min(_BEAT, max(0.0, soonest - self._clock()))
        try:
            await asyncio.wait_for(self._wake.wait(), pause)
        except TimeoutError:
            return
        self._wake.clear()

    async def _turn(self, key: Key) -> None:
        try:
            again = await self._work(key)
            self._failures.pop(key, None)
            if again is not None:
                self.add(key, again)
        except Exception as error:  # noqa: BLE001 - one resource's failure, of whatever kind, is not another's
            self.add(key, max(self._failed(key, error) or 0.0, self._pause(key)))
        finally:
            del self._running[key]
            self._wake.set()

    def _pause(self, key: Key) -> float:
        """Twice as long after each failure, and never the same for two: they would come back together."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(count - 1, 10))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
