"""Counts the requests to endpoints in one replica of the API, and stores the counts every few seconds."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from windlass.domain.usage import RequestCounts, RequestGroup, RequestUsage
from windlass.ports import Clock, Database

FLUSH_SECONDS: Final = 5.0
Outcome = Literal["succeeded", "rejected", "failed", "cancelled"]


@dataclass(slots=True)
class _Counter:
    """Mutable ``RequestCounts``: a request increments it without a copy."""

    succeeded: int = 0
    rejected: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_stored: bool = False

    def counts(self) -> RequestCounts:
        return RequestCounts(**{name: getattr(self, name) for name in RequestCounts.model_fields})


class RequestUsageCounter:
    """The requests that this process has served, by hour and group; thread-safe.

    A request writes nothing. ``step`` stores the totals of the groups that have changed, of the current hour: to store
    them twice changes nothing, and no other process writes these rows. A process that is killed loses what it has
    counted since the last step.

    Args:
        database: where the counts are stored.
        instance: the name of this process; another process, also a restarted one, has another name.
        clock: tells the hour.
    """

    def __init__(self, database: Database, instance: str, clock: Clock) -> None:
        self._database, self._instance, self._clock = database, instance, clock
        self.on_start: Callable[[], None] = lambda: None
        """Called when there is something to store again: ``step`` is due."""
        self._lock = threading.Lock()
        self._counters: dict[tuple[datetime, RequestGroup], _Counter] = {}
        self._hour = datetime.min.replace(tzinfo=UTC)
        self._is_pending = False
        self._flushed_at: float | None = None

    def count(self, group: RequestGroup, outcome: Outcome, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """Count a request that has ended."""
        hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        with self._lock:
            self._hour = max(self._hour, hour)  # a clock that is set back must not begin a stored hour again
            counter = self._counters.setdefault((self._hour, group), _Counter())
            setattr(counter, outcome, getattr(counter, outcome) + 1)
            counter.prompt_tokens += prompt_tokens
            counter.completion_tokens += completion_tokens
            counter.is_stored = False
            starts, self._is_pending = not self._is_pending, True
        if starts:
            self.on_start()

    def step(self) -> float | None:
        """Store the changed counts if that is due; return the seconds until the next step, None until a request."""
        now = self._clock.monotonic()
        if self._flushed_at is not None and now < self._flushed_at + FLUSH_SECONDS:
            wait = self._flushed_at + FLUSH_SECONDS - now
            return wait if self._has_pending() else None
        self.flush()
        self._flushed_at = now
        return FLUSH_SECONDS if self._has_pending() else None

    def flush(self) -> None:
        """Store the changed counts. They stay pending if that fails."""
        with self._lock:
            changed = {key: counter.counts() for key, counter in self._counters.items() if not counter.is_stored}
        rows: dict[tuple[str, datetime], list[RequestUsage]] = {}
        for (hour, group), counts in changed.items():
            usage = RequestUsage.of(group, counts)
            rows.setdefault((usage.project, hour), []).append(usage)
        if rows:
            with self._database.write() as uow:
                for (project, hour), usages in sorted(rows.items(), key=lambda each: each[0]):
                    uow.project(project)  # row security lets a transaction write the rows of its project
                    uow.request_usage.record(self._instance, hour, usages)
        with self._lock:
            for key, counts in changed.items():
                self._counters[key].is_stored = self._counters[key].counts() == counts
            self._counters = {
                key: counter for key, counter in self._counters.items() if key[0] >= self._hour or not counter.is_stored
            }
            self._is_pending = any(not counter.is_stored for counter in self._counters.values())

    def _has_pending(self) -> bool:
        with self._lock:
            return self._is_pending
