"""Counts the requests to applications of endpoints in one replica of the API, and reports them to the worker."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Self

from windlass.ports import Clock, Database

REPORT_SECONDS = 1.0
"""Shortest time between two reports of an instance."""
_ANY = 1e-3
"""The least load that is reported for a request that has just begun."""


class RequestLoads:
    """The ongoing requests of this process by application; thread-safe.

    ``step`` reports their average since the last report: the first request at once, then every second until there is
    none. Without requests nothing is written and nothing needs to run.

    Args:
        database: where the worker reads the reports.
        instance: the name of this replica of the API.
        clock: measures the averages.
    """

    def __init__(self, database: Database, instance: str, clock: Clock) -> None:
        self._database, self._instance, self._clock = database, instance, clock
        self.on_start: Callable[[], None] = lambda: None
        """Called when there is a request again: ``step`` is due."""
        self._lock = threading.Lock()
        self._ongoing: Counter[str] = Counter()
        self._request_seconds: defaultdict[str, float] = defaultdict(float)
        self._since = self._counted_at = clock.monotonic()
        self._reported_at: float | None = None
        self._is_recorded = False

    @property
    def ongoing(self) -> dict[str, int]:
        """The number of ongoing requests by application."""
        with self._lock:
            return dict(self._ongoing)

    def request(self, app: str) -> "OngoingRequest":
        """Count a request to an application until it is closed."""
        with self._lock:
            now = self._count()
            starts = not self._ongoing
            if starts and not self._request_seconds:
                self._since = now
            self._ongoing[app] += 1
        if starts:
            self.on_start()
        return OngoingRequest(self, app)

    def replace(self, app: str, other: str | None) -> None:
        """Count a request to an application no longer, or as one to another application."""
        with self._lock:
            self._count()
            self._ongoing[app] -= 1
            if other is not None:
                self._ongoing[other] += 1
            self._ongoing = +self._ongoing

    def step(self) -> float | None:
        """Report the load if that is due; return the seconds until the next report, None until the next request."""
        now = self._clock.monotonic()
        if self._reported_at is not None and now < self._reported_at + REPORT_SECONDS:
            return self._reported_at + REPORT_SECONDS - now if self._has_load() or self._is_recorded else None
        averages = self._averages()
        if averages:
            self._is_recorded = True
            with self._database.write() as uow:
                uow.request_loads.record(self._instance, averages)
        elif self._is_recorded:
            self.close()
        else:
            return None
        self._reported_at = now
        return REPORT_SECONDS

    def close(self) -> None:
        """Delete the report of this instance."""
        if self._is_recorded:
            with self._database.write() as uow:
                uow.request_loads.remove(self._instance)
            self._is_recorded = False

    def _has_load(self) -> bool:
        with self._lock:
            return bool(self._ongoing or self._request_seconds)

    def _count(self) -> float:
        """Add the time since the last call to every ongoing request; return the time."""
        now = self._clock.monotonic()
        for app, requests in self._ongoing.items():
            self._request_seconds[app] += requests * (now - self._counted_at)
        self._counted_at = now
        return now

    def _averages(self) -> dict[str, float]:
        """Return the average since the last call by application, over at least the time between two reports.

        So the first report says that there is a request, and only a full interval says that there are many.
        """
        with self._lock:
            now = self._count()
            seconds = max(now - self._since, REPORT_SECONDS)
            averages = {app: value / seconds for app, value in self._request_seconds.items()}
            for app in self._ongoing:
                averages[app] = max(averages.get(app, 0.0), _ANY)
            self._request_seconds, self._since = defaultdict(float), now
            return averages


class OngoingRequest:
    """One counted request; closing it again has no effect."""

    def __init__(self, loads: RequestLoads, app: str) -> None:
        self._loads, self._app, self._open = loads, app, True

    def move(self, app: str) -> None:
        """Count it as one to another application."""
        if self._open and app != self._app:
            self._loads.replace(self._app, app)
            self._app = app

    def close(self) -> None:
        """End it."""
        if self._open:
            self._open = False
            self._loads.replace(self._app, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
