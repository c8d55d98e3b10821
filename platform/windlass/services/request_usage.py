"""Counts the requests to endpoints in one replica of the API, and stores the counts every few seconds."""

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from windlass.domain.endpoint_traffic import (
    BUCKETS,
    MINUTE,
    EndpointMinute,
    TrafficCounts,
    bucket_of,
    floor_time,
)
from windlass.domain.usage import RequestCounts, RequestGroup, RequestUsage
from windlass.ports import Clock, Database, UnitOfWork

FLUSH_SECONDS: Final = 5.0
_HOUR: Final = timedelta(hours=1)
_START: Final = datetime.min.replace(tzinfo=UTC)
Outcome = Literal["succeeded", "rejected", "failed", "cancelled"]
Key = TypeVar("Key", bound=Hashable)


class _EndpointKey(NamedTuple):
    project: str
    endpoint: str


@dataclass
class _PeriodCounters(Generic[Key]):
    """Counters by period and key: those of the current period, and earlier ones until they are stored."""

    period: timedelta
    _counters: dict[tuple[datetime, Key], Counter[str]] = field(default_factory=dict)
    _unstored: set[tuple[datetime, Key]] = field(default_factory=set)
    _current: datetime = _START

    @property
    def is_pending(self) -> bool:
        """Whether there is something to store."""
        return bool(self._unstored)

    def add(self, now: datetime, key: Key, counts: Mapping[str, int]) -> None:
        # a clock that is set back must not begin a stored period again
        self._current = max(self._current, floor_time(now, self.period))
        self._counters.setdefault((self._current, key), Counter()).update(counts)
        self._unstored.add((self._current, key))

    def unstored(self) -> dict[tuple[datetime, Key], Counter[str]]:
        """Return copies of the counters that have changed."""
        return {each: self._counters[each].copy() for each in self._unstored}

    def mark_stored(self, stored: Mapping[tuple[datetime, Key], Counter[str]]) -> None:
        """Forget what is stored; what was counted meanwhile stays to be stored."""
        self._unstored -= {each for each, counts in stored.items() if self._counters[each] == counts}
        self._counters = {
            each: counter
            for each, counter in self._counters.items()
            if each[0] >= self._current or each in self._unstored
        }


class RequestUsageCounter:
    """The requests that this process has served, by hour and group, and by minute and endpoint; thread-safe.

    A request writes nothing. ``step`` stores the totals of what has changed, of the current hour and minute: to store
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
        self._usage: _PeriodCounters[RequestGroup] = _PeriodCounters(_HOUR)
        self._traffic: _PeriodCounters[_EndpointKey] = _PeriodCounters(MINUTE)
        self._flushed_at: float | None = None

    def count(
        self,
        group: RequestGroup,
        outcome: Outcome,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        *,
        seconds: float = 0.0,
    ) -> None:
        """Count a request that has ended, ``seconds`` after its arrival."""
        counts: dict[str, int] = {outcome: 1, "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        self._add(_EndpointKey(group.project, group.endpoint), outcome, seconds, {group: counts})

    def count_failure(self, project: str, endpoint: str) -> None:
        """Count a request to an endpoint that no model version could serve."""
        self._add(_EndpointKey(project, endpoint), "failed", 0.0, {})

    def _add(
        self, key: _EndpointKey, outcome: Outcome, seconds: float, usages: Mapping[RequestGroup, Mapping[str, int]]
    ) -> None:
        now = self._clock.now()
        traffic: dict[str, int] = {outcome: 1}
        if outcome == "succeeded":
            traffic[str(bucket_of(seconds * 1000))] = 1
        with self._lock:
            starts = not self._is_pending
            for group, counts in usages.items():
                self._usage.add(now, group, counts)
            self._traffic.add(now, key, traffic)
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
            usage, traffic = self._usage.unstored(), self._traffic.unstored()
        projects = {group.project for _, group in usage} | {key.project for _, key in traffic}
        if projects:
            with self._database.write() as uow:
                for project in sorted(projects):
                    uow.project(project)  # row security lets a transaction write the rows of its project
                    self._record(uow, project, usage, traffic)
        with self._lock:
            self._usage.mark_stored(usage)
            self._traffic.mark_stored(traffic)

    def _record(
        self,
        uow: UnitOfWork,
        project: str,
        usage: Mapping[tuple[datetime, RequestGroup], Counter[str]],
        traffic: Mapping[tuple[datetime, _EndpointKey], Counter[str]],
    ) -> None:
        hours: dict[datetime, list[RequestUsage]] = {}
        for (hour, group), counts in usage.items():
            if group.project == project:
                hours.setdefault(hour, []).append(RequestUsage.of(group, RequestCounts(**counts)))
        for hour, usages in sorted(hours.items()):
            uow.request_usage.record(self._instance, hour, usages)
        uow.endpoint_traffic.record(
            self._instance,
            [_minute(minute, key, counts) for (minute, key), counts in traffic.items() if key.project == project],
        )

    @property
    def _is_pending(self) -> bool:
        return self._usage.is_pending or self._traffic.is_pending

    def _has_pending(self) -> bool:
        with self._lock:
            return self._is_pending


def _minute(minute: datetime, key: _EndpointKey, counts: Counter[str]) -> EndpointMinute:
    outcomes = {name: counts[name] for name in ("succeeded", "rejected", "failed", "cancelled")}
    latencies = tuple(counts[str(bucket)] for bucket in range(BUCKETS))
    return EndpointMinute(**key._asdict(), minute=minute, counts=TrafficCounts(**outcomes, latencies=latencies))
