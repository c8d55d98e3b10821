"""Polls resources that cannot be watched: in its own thread, one query at a time, rate-limited, and only if needed."""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from windlass.kube.errors import KubeApiError, KubeNotFoundError, NoKindMatchError

_MAX_BACKOFF: Final = 60.0
_MIN_BACKOFF: Final = 2.0
_log = logging.getLogger(__name__)
Query = TypeVar("Query", bound=Hashable)
Result = TypeVar("Result")


@dataclass
class _Entry(Generic[Result]):
    """A query: the state that it depends on, when it is due, and its last result."""

    state: Hashable
    due: float
    attempts: int = 0
    result: Result | None = None


class PollingCache(Generic[Query, Result]):
    """Holds the results of a set of queries.

    Each query is fetched once per state that it depends on. ``fetch`` also returns whether its result is final for that
    state; if not, it is fetched again after 2, 4, 8, ... 60 seconds. ``on_change`` is called when a result changes.
    After a failure all queries pause; the result of a missing object is None.
    """

    def __init__(
        self,
        fetch: Callable[[Query, Hashable], tuple[Result, bool]],
        on_change: Callable[[], None],
        *,
        name: str,
        per_second: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch, self._on_change, self._interval, self._clock = fetch, on_change, 1.0 / per_second, clock
        self._entries: dict[Query, _Entry[Result]] = {}
        self._condition = threading.Condition()
        self._stop = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; a stopped cache cannot be restarted."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop the thread; wait at most ``timeout`` seconds for a request in flight."""
        self._stop.set()
        with self._condition:
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def set_queries(self, queries: Mapping[Query, Hashable]) -> None:
        """Replace the set of queries; the values are the states that the queries depend on."""
        with self._condition:
            now = self._clock()
            entries = self._entries
            self._entries = {
                query: entries[query] if query in entries and entries[query].state == state else _Entry(state, now)
                for query, state in queries.items()
            }
            self._condition.notify()

    def results(self) -> dict[Query, Result]:
        """Return the known results of the current queries in their current states."""
        with self._condition:
            return {query: entry.result for query, entry in self._entries.items() if entry.result is not None}

    def _run(self) -> None:
        while not self._stop.is_set():
            if due := self._next_due():
                self._stop.wait(self._poll(*due))

    def _next_due(self) -> tuple[Query, _Entry[Result]] | None:
        with self._condition:
            query = min(self._entries, key=lambda query: self._entries[query].due, default=None)
            if query is None:
                self._condition.wait(None if not self._stop.is_set() else 0)
                return None
            entry = self._entries[query]
            if (remaining := entry.due - self._clock()) > 0:
                self._condition.wait(min(remaining, _MAX_BACKOFF) if not self._stop.is_set() else 0)
                return None
            return query, entry

    def _poll(self, query: Query, entry: _Entry[Result]) -> float:
        """Fetch one query; return the seconds to wait before the next one."""
        result: Result | None
        try:
            result, final = self._fetch(query, entry.state)
        except NoKindMatchError as error:
            return self._backoff(error)
        except KubeNotFoundError:
            result, final = None, True
        except KubeApiError as error:
            return self._backoff(error)
        except Exception as error:  # noqa: BLE001 - an unparsable response counts as a failure
            return self._backoff(KubeApiError(f"{type(error).__name__}: {error}"))
        self._failures = 0
        with self._condition:
            entry.attempts += 1
            backoff = min(_MAX_BACKOFF, _MIN_BACKOFF * 2.0 ** (entry.attempts - 1))
            entry.due = float("inf") if final else self._clock() + backoff
            changed, entry.result = result != entry.result, result
            changed = changed and self._entries.get(query) is entry
        if changed:
            self._on_change()
        return self._interval

    def _backoff(self, error: KubeApiError) -> float:
        self._failures += 1
        if self._failures == 1:
            _log.warning("polling the cluster failed", extra={"error": error.message})
        return max(error.retry_after or 0.0, min(_MAX_BACKOFF, _MIN_BACKOFF * 2.0 ** min(self._failures - 1, 10)))
