"""Keeps a store at the state of the cluster: for each kind a list, then a watch, in a thread of its own.

A watch that breaks goes on where it was. It is begun with a list when the server no longer knows that version, and from
time to time whatever it said. One that is silent for too long is taken for dead: bookmarks come about once a minute.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from windlass.kube.client import Client
from windlass.kube.errors import ClusterError, ExpiredError, SilentError, UnknownKindError
from windlass.kube.objects import Change, Kind, Listing
from windlass.kube.store import Store
from windlass.kube.stream import Stream

_LONGEST_WATCH: Final = 300.0
_FLEETING: Final = 1.0
"""A watch that ends sooner and has told nothing is a failure: something ends it."""
_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """What is kept of the cluster: a kind, of which a selector of labels may choose."""

    kind: Kind
    labels: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long, in seconds."""

    resync: float = 300.0
    """Between two lists of a kind, whatever the watches say."""
    silence: float = 75.0
    """Without a word, after which a watch is taken for dead. Bookmarks come every minute, the first one of a quiet kind
    sometimes after two; to begin again where the watch was costs one request."""
    unserved: float = 30.0
    """Until a kind that the cluster does not serve is looked for again."""
    first_pause: float = 0.5
    """After a failure; twice as long after each further one, up to ``longest_pause``."""
    longest_pause: float = 30.0


class Health(NamedTuple):
    """What is known of one kind."""

    read: bool
    """Whether it was read once; a kind that is not served counts as read and empty."""
    served: bool
    silent: float
    """Seconds since the server said anything of the kind."""
    problem: str
    """Why it cannot be read now; empty, if it can."""


class Keeper:
    """Lists and watches kinds into a store, each in a thread of its own, and says when something has changed.

    ``news`` is called in those threads with the kind, and must be quick.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        sources: Sequence[Source],
        news: Callable[[Kind], None],
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stop = threading.Event()
        self._stop = stop
        self._feeds = {one.kind: _Feed(client, store, one, news, pace or Pace(), clock, stop) for one in sources}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin; what was stopped does not start again."""
        for kind, feed in self._feeds.items():
            thread = threading.Thread(target=feed.run, name=f"watch {kind}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, patience: float = 5.0) -> None:
        """End the threads. One that awaits the answer to a request ends with it, after ``patience`` unobserved."""
        self._stop.set()
        for feed in self._feeds.values():
            feed.interrupt()
        until = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def health(self) -> dict[Kind, Health]:
        """Return how each kind is."""
        return {kind: feed.health() for kind, feed in self._feeds.items()}


class _Feed:
    """One kind."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        client: Client,
        store: Store,
        source: Source,
        news: Callable[[Kind], None],
        pace: Pace,
        clock: Callable[[], float],
        stop: threading.Event,
    ) -> None:
        self._client, self._store, self._source, self._pace = client, store, source, pace
        self._clock, self._stop = clock, stop
        self._news = news
        self._stream: Stream | None = None
        self._version = ""
        self._list_due = 0.0
        self._failures = 0
        self._heard = clock()
        self._read, self._served, self._problem = False, True, ""

    def health(self) -> Health:
        return Health(self._read, self._served, self._clock() - self._heard, self._problem)

    def interrupt(self) -> None:
        """Wake the thread from a watch; the flag to stop is set already."""
        if stream := self._stream:
            stream.close()

    def run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self._turn())

    def _turn(self) -> float:
        """List if it is time, then watch until that ends; return the seconds to wait before the next turn."""
        try:
            return self._follow()
        except ClusterError as error:
            return self._ended(error)
        except Exception as error:  # noqa: BLE001 - a thread that ends would leave a state that is never mended
            return self._failed(ClusterError(f"watch {self._source.kind}: {type(error).__name__}: {error}"))

    def _ended(self, error: ClusterError) -> float:
        if isinstance(error, SilentError):
            self._recovered()
            return 0.0
        if isinstance(error, UnknownKindError):
            self._take_over(Listing([], ""), served=False)
            self._recovered()
            return self._pace.unserved
        if isinstance(error, ExpiredError):
            self._version = ""
            if not self._failures:
                self._failures = 1
                return 0.0
        return self._failed(error)

    def _follow(self) -> float:
        kind, labels = self._source
        if not self._version or self._clock() >= self._list_due:
            self._take_over(self._client.list(kind, labels=labels), served=True)
        began, seconds = self._clock(), min(_LONGEST_WATCH, self._list_due - self._clock())
        stream = self._client.watch(
            kind,
            since=self._version,
            labels=labels,
            seconds=max(1, math.ceil(seconds)),
            silence=self._pace.silence,
        )
        self._stream = stream
        if self._stop.is_set():
            stream.close()  # whoever stopped us may have found no stream to close
        self._hear()
        told = False
        try:
            for change in stream:
                told = True
                self._recovered()
                self._hear()
                self._take(change)
        finally:
            self._stream = None
        self._hear()
        if not told and self._clock() - began < min(_FLEETING, seconds):
            return self._failed(ClusterError(f"watch {kind}: it ended at once"))
        self._recovered()
        return 0.0

    def _hear(self) -> None:
        self._heard = self._clock()

    def _recovered(self) -> None:
        """A watch that tells something, or lasts, works; that a list was answered or a watch begun is not enough."""
        self._failures, self._problem = 0, ""

    def _take(self, change: Change) -> None:
        """Take over what a watch says. A bookmark is of the kind and says only how far the watch is."""
        version = change.object.get("metadata", {}).get("resourceVersion", "")
        if change.type == "BOOKMARK":
            news = False
        elif change.type == "DELETED":
            news = self._store.remove(change.object)
        else:
            news = self._store.put(change.object)
        self._version = version or self._version
        if news:
            self._news(self._source.kind)

    def _take_over(self, listing: Listing, *, served: bool) -> None:
        changed = self._store.replace(self._source.kind, listing)
        self._hear()
        first = not self._read or served != self._served
        self._version = listing.resource_version
        self._list_due = self._clock() + self._pace.resync * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        self._read, self._served = True, served
        if changed or first:
            self._news(self._source.kind)

    def _failed(self, error: ClusterError) -> float:
        """Return the pause after a failure: longer each time, never the same for two, and as long as was asked for."""
        longest = min(self._pace.longest_pause, self._pace.first_pause * 2.0 ** min(self._failures, 20))
        self._failures += 1
        self._problem = error.message
        told = {"kind": str(self._source.kind), "failures": self._failures, "error": error.message}
        _log.warning("a kind cannot be watched now", extra=told)
        return max(error.retry_after or 0.0, longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
