"""A work queue of resource keys: deduplicated, at most one worker per key, with exponential backoff after failures.

A key that is enqueued while it is processed is processed again afterwards, so that no change is lost.
"""

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from windlass.kit.backoff import Backoff
from windlass.kube.objects import Kind
from windlass_operators.metrics import QUEUE_LENGTH

_BACKOFF = Backoff(first=0.5, maximum=60.0)
_HEARTBEAT_SECONDS = 5.0


class Key(NamedTuple):
    """A resource to reconcile."""

    kind: Kind
    name: str
    namespace: str | None = None


class WorkQueue:
    """Passes keys to ``work``, which returns the seconds after which to requeue the key, or None.

    ``failed`` is called with an exception of ``work`` and returns the minimum delay of the retry, or None. Thread-safe.
    """

    def __init__(
        self,
        work: Callable[[Key], float | None],
        failed: Callable[[Key, Exception], float | None],
        workers: int,
        heartbeat: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._failed, self._workers, self._heartbeat, self._clock = work, failed, workers, heartbeat, clock
        self._condition = threading.Condition()
        self._sequence = itertools.count()
        self._heap: list[tuple[float, int, Key]] = []
        """Entries of keys that may start; an entry whose time is not the key's due time is obsolete."""
        self._due: dict[Key, float] = {}
        self._running: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._started_at: dict[Key, float] = {}
        """Last start of each key that was processed, oldest first; kept as long as an interval may refer to it."""
        self._longest_interval = 0.0
        self._paused_until = -math.inf
        self._stopped = False

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Schedule a key after ``delay`` seconds, unless it is already scheduled earlier."""
        with self._condition:
            self._schedule(key, self._clock() + delay)

    def enqueue(self, key: Key, min_interval: float = 0.0) -> None:
        """Schedule a key because of a change: now, or ``min_interval`` seconds after the key was started last."""
        with self._condition:
            self._longest_interval = max(self._longest_interval, min_interval)
            self._schedule(key, max(self._clock(), self._started_at.get(key, -math.inf) + min_interval))

    def pause(self, seconds: float) -> None:
        """Start nothing for this many seconds."""
        with self._condition:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def run(self, stopping: threading.Event) -> None:
        """Process keys until ``stopping`` is set, then wait for those in process.

        Raises:
            RuntimeError: a worker thread ended, which is a defect.
        """
        threads = [threading.Thread(target=self._run_worker, name=f"reconcile {n}") for n in range(self._workers)]
        for thread in threads:
            thread.start()
        try:
            while not stopping.wait(_HEARTBEAT_SECONDS):
                with self._condition:  # a deadlock of the workers stops the heartbeats
                    QUEUE_LENGTH.set(len(self._due))
                if not all(thread.is_alive() for thread in threads):
                    raise RuntimeError("a worker of the work queue ended")
                self._heartbeat()
        finally:
            with self._condition:
                self._stopped = True
                self._condition.notify_all()
            for thread in threads:
                thread.join()

    def _schedule(self, key: Key, due: float) -> None:
        if due >= self._due.get(key, math.inf):
            return
        self._due[key] = due
        QUEUE_LENGTH.set(len(self._due))
        if key not in self._running:
            self._push(key)

    def _push(self, key: Key) -> None:
        entry = (self._due[key], next(self._sequence), key)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._condition.notify()

    def _run_worker(self) -> None:
        while (key := self._next()) is not None:
            self._process(key)

    def _next(self) -> Key | None:
        """Wait for a key that is due and start it; None when the queue is stopped."""
        with self._condition:
            while not self._stopped:
                while self._heap and self._heap[0][0] != self._due.get(self._heap[0][2]):
                    heapq.heappop(self._heap)
                now = self._clock()
                due = max(self._heap[0][0], self._paused_until) if self._heap else math.inf
                if due <= now:
                    return self._start(heapq.heappop(self._heap)[2], now)
                self._condition.wait(min(due - now, _HEARTBEAT_SECONDS))
        return None

    def _start(self, key: Key, now: float) -> Key:
        del self._due[key]
        QUEUE_LENGTH.set(len(self._due))
        self._running.add(key)
        while self._started_at and next(iter(self._started_at.values())) + self._longest_interval <= now:
            del self._started_at[next(iter(self._started_at))]
        self._started_at.pop(key, None)
        self._started_at[key] = now
        if self._heap:
            self._condition.notify()  # another worker waits for the next key
        return key

    def _process(self, key: Key) -> None:
        try:
            delay = self._work(key)
            failed = False
        except Exception as error:  # noqa: BLE001 - a failure of one key must not affect others
            delay, failed = self._failed(key, error) or 0.0, True
        with self._condition:
            self._running.discard(key)
            if failed:
                count = self._failures[key] = self._failures.get(key, 0) + 1
                delay = max(delay or 0.0, _BACKOFF.delay(count))
            else:
                self._failures.pop(key, None)
            if delay is not None:
                self._schedule(key, self._clock() + delay)
            if key in self._due:
                self._push(key)
