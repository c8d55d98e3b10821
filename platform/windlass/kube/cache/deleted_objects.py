"""The last state of objects that were deleted a short time ago, for readers that would miss what happened before."""

import threading
from collections import deque
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from windlass.kube.cache.store import Change
from windlass.kube.objects import Kind, Object
from windlass.ports import Clock

_KEPT: Final = timedelta(minutes=5)
_MAX_OBJECTS: Final = 10_000


class DeletedObject(NamedTuple):
    """An object as last observed, and when its deletion was observed."""

    object: Object
    deleted_at: datetime


class DeletedObjects:
    """The objects of one kind whose deletions were observed in the last minutes. Thread-safe."""

    def __init__(self, kind: Kind, clock: Clock) -> None:
        self._kind, self._clock = kind, clock
        self._lock = threading.Lock()
        self._deleted: deque[DeletedObject] = deque(maxlen=_MAX_OBJECTS)

    def on_change(self, change: Change) -> None:
        """Keep the object of a deletion."""
        if change.ref.kind == self._kind and change.before is not None and change.after is None:
            with self._lock:
                self._deleted.append(DeletedObject(change.before, self._clock.now()))

    def all(self) -> list[DeletedObject]:
        """Return the objects, the oldest deletion first."""
        oldest = self._clock.now() - _KEPT
        with self._lock:
            while self._deleted and self._deleted[0].deleted_at < oldest:
                self._deleted.popleft()
            return list(self._deleted)
