"""Locks that threads acquire in the order in which they asked for them."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


class FairLock:
    """A mutual exclusion lock with a first-in, first-out queue; not reentrant.

    ``threading.Lock`` is not fair: a thread that releases and acquires it in a loop can keep all others waiting.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        """Acquire the lock."""
        with self._mutex:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()  # released by the previous holder, which hands the lock over
        except BaseException:
            with self._mutex:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock, or hand it over to the first thread in the queue."""
        with self._mutex:
            self._release()

    def _release(self) -> None:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._held = False


class FairLocks:
    """A ``FairLock`` for each name, which exists while a thread holds it or waits for it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._locks: dict[str, tuple[FairLock, int]] = {}

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold the lock of a name."""
        with self._mutex:
            lock, users = self._locks.get(name) or (FairLock(), 0)
            self._locks[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._mutex:
                _, users = self._locks.pop(name)
                if users > 1:
                    self._locks[name] = lock, users - 1
