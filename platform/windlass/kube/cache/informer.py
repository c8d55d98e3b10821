"""Keeps a store in sync with the cluster: for each kind a list and then a watch, in its own thread.

A broken watch resumes at its last resourceVersion. A list precedes it if that version has expired, and periodically
(resync). A watch that is idle for too long is considered dead: bookmarks arrive about once a minute.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from windlass.kube.cache.store import Change, Store
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, NoKindMatchError, ResourceExpiredError, WatchTimeoutError
from windlass.kube.objects import Kind, ObjectList, WatchEvent
from windlass.kube.stream import WatchStream

_MAX_WATCH_SECONDS: Final = 300.0
_MIN_WATCH_SECONDS: Final = 1.0
"""A watch that ends sooner without an event counts as a failure."""
_log = logging.getLogger(__name__)


class WatchTarget(NamedTuple):
    """A kind to watch, optionally restricted by a label selector and to a namespace."""

    kind: Kind
    labels: str = ""
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class WatchTimings:
    """Intervals and timeouts in seconds."""

    resync: float = 300.0
    """Between two lists of a kind."""
    idle_timeout: float = 75.0
    """Without data, after which a watch is restarted. Bookmarks come every minute, the first one of a quiet kind
    sometimes after two minutes; a restart costs one request."""
    unserved_retry: float = 30.0
    """Before a kind that the cluster does not serve is tried again."""
    min_backoff: float = 0.5
    """After a failure; doubles with each further failure, up to ``max_backoff``."""
    max_backoff: float = 30.0


class WatchStatus(NamedTuple):
    """Sync status of one kind."""

    synced: bool
    """Whether it was listed once; a kind that is not served counts as synced and empty."""
    served: bool
    idle_seconds: float
    """Since the server last sent anything about the kind."""
    error: str
    """The last failure; empty if the watch works."""


def _ignore(_: object) -> None:
    """Handle nothing."""


@dataclass(frozen=True, slots=True)
class InformerHandlers:
    """Functions that an informer calls in its threads; they must be fast."""

    on_change: Callable[[Change], None]
    """Called with each change of the store."""
    on_sync: Callable[[Kind], None] = _ignore
    """Called with a kind when it was listed first, and when the cluster begins or ends to serve it."""
    on_missed: Callable[[int], None] = _ignore
    """Called with the number of changes that a resync found although no watch had reported them."""


class SharedInformer:
    """Lists and watches kinds into one store, each in its own thread, and notifies about changes."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        targets: Sequence[WatchTarget],
        handlers: InformerHandlers,
        timings: WatchTimings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stop = threading.Event()
        self._stop = stop
        self._reflectors = {
            target.kind: _Reflector(client, store, target, handlers, timings or WatchTimings(), clock, stop)
            for target in targets
        }
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; a stopped informer cannot be restarted."""
        for kind, reflector in self._reflectors.items():
            thread = threading.Thread(target=reflector.run, name=f"watch {kind}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop the threads; wait at most ``timeout`` seconds for requests in flight."""
        self._stop.set()
        for reflector in self._reflectors.values():
            reflector.interrupt()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def status(self) -> dict[Kind, WatchStatus]:
        """Return the sync status of each kind."""
        return {kind: reflector.status() for kind, reflector in self._reflectors.items()}


class _Reflector:
    """Lists and watches one kind."""

    def __init__(  # noqa: PLR0917 - called in one place
        self,
        client: KubeClient,
        store: Store,
        target: WatchTarget,
        handlers: InformerHandlers,
        timings: WatchTimings,
        clock: Callable[[], float],
        stop: threading.Event,
    ) -> None:
        self._client, self._store, self._target, self._timings = client, store, target, timings
        self._clock, self._stop = clock, stop
        self._handlers = handlers
        self._stream: WatchStream | None = None
        self._version = ""
        self._list_due = 0.0
        self._failures = 0
        self._last_activity = clock()
        self._synced, self._served, self._error = False, True, ""

    def status(self) -> WatchStatus:
        return WatchStatus(self._synced, self._served, self._clock() - self._last_activity, self._error)

    def interrupt(self) -> None:
        """Close the open watch; the stop flag is set before."""
        if stream := self._stream:
            stream.close()

    def run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self._run_once())

    def _run_once(self) -> float:
        """List if due, then watch until the watch ends; return the seconds to wait before the next run."""
        try:
            return self._list_and_watch()
        except KubeApiError as error:
            return self._handle_error(error)
        except Exception as error:  # noqa: BLE001 - a thread that ends would leave a stale cache
            return self._backoff(KubeApiError(f"watch {self._target.kind}: {type(error).__name__}: {error}"))

    def _handle_error(self, error: KubeApiError) -> float:
        if isinstance(error, WatchTimeoutError):
            self._reset_failures()
            return 0.0
        if isinstance(error, NoKindMatchError):
            self._replace(ObjectList([], ""), served=False)
            self._reset_failures()
            return self._timings.unserved_retry
        if isinstance(error, ResourceExpiredError):
            self._version = ""
            if not self._failures:
                self._failures = 1
                return 0.0
        return self._backoff(error)

    def _list_and_watch(self) -> float:
        kind, labels, namespace = self._target
        if not self._version or self._clock() >= self._list_due:
            self._replace(self._client.list(kind, namespace, labels=labels), served=True)
        started, seconds = self._clock(), min(_MAX_WATCH_SECONDS, self._list_due - self._clock())
        stream = self._client.watch(
            kind,
            namespace,
            resource_version=self._version,
            labels=labels,
            seconds=max(1, math.ceil(seconds)),
            idle_timeout=self._timings.idle_timeout,
        )
        self._stream = stream
        if self._stop.is_set():
            stream.close()  # stop() may have run before the stream was assigned
        self._touch()
        received_any = False
        try:
            for event in stream:
                received_any = True
                self._reset_failures()
                self._touch()
                self._apply_event(event)
        finally:
            self._stream = None
        self._touch()
        if not received_any and self._clock() - started < min(_MIN_WATCH_SECONDS, seconds):
            return self._backoff(KubeApiError(f"watch {kind}: the server closed it at once"))
        self._reset_failures()
        return 0.0

    def _touch(self) -> None:
        self._last_activity = self._clock()

    def _reset_failures(self) -> None:
        """Called after an event or a watch of some length; a successful list or start of a watch is not enough."""
        self._failures, self._error = 0, ""

    def _apply_event(self, event: WatchEvent) -> None:
        """Apply an event to the store. A bookmark carries only a resourceVersion."""
        version = event.object.get("metadata", {}).get("resourceVersion", "")
        change: Change | None = None
        if event.type == "DELETED":
            change = self._store.delete(event.object)
        elif event.type != "BOOKMARK":
            change = self._store.put(event.object)
        self._version = version or self._version
        if change:
            self._handlers.on_change(change)

    def _replace(self, listing: ObjectList, *, served: bool) -> None:
        changes = self._store.replace(self._target.kind, listing)
        self._touch()
        first = not self._synced or served != self._served
        # without a version the watch could not resume, and its changes are expected
        missed = len(changes) if self._version and not first else 0
        self._version = listing.resource_version
        jitter = random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        self._list_due = self._clock() + self._timings.resync * jitter
        self._synced, self._served = True, served
        for change in changes:
            self._handlers.on_change(change)
        if first:
            self._handlers.on_sync(self._target.kind)
        if missed:
            self._handlers.on_missed(missed)

    def _backoff(self, error: KubeApiError) -> float:
        """Return the seconds to wait after a failure: exponential with jitter, at least the server's Retry-After."""
        backoff = min(self._timings.max_backoff, self._timings.min_backoff * 2.0 ** min(self._failures, 20))
        self._failures += 1
        self._error = error.message
        context = {"kind": str(self._target.kind), "failures": self._failures, "error": error.message}
        _log.warning("watch failed", extra=context)
        return max(error.retry_after or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
