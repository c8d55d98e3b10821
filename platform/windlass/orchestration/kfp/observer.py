"""Reads the runs that are polled together: the number of requests does not depend on the number of runs."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from windlass.domain.errors import UnavailableError
from windlass.orchestration.kfp.client import MAX_LISTED_RUNS, Json, KfpClient, parse_run
from windlass.orchestration.kfp.runs import ServerRun

PERIOD_SECONDS: Final = 2.0
_FORGET_SECONDS: Final = 60.0
"""Time after which a run is not requested any more that nobody has asked for: another worker polls now."""


@dataclass
class _Polled:
    """What is known about one run. ``rows``: of those of its ids that exist."""

    run_ids: tuple[str, ...]
    namespace: str
    asked_at: float
    read_at: float
    rows: tuple[Json, ...] = ()


class RunObserver:
    """Observations of runs that are at most two seconds old.

    When one is older, all runs that are asked for are requested in lists of 100 ids. A list has the same rows as the
    requests for single runs. A run that is asked for the first time is requested alone. A failure counts for the same
    two seconds, so that a server which does not reply is asked once, and not for each run.

    Args:
        server: the server.
        clock: seconds.
    """

    def __init__(self, server: KfpClient, clock: Callable[[], float]) -> None:
        self._server, self._clock = server, clock
        self._lock = threading.Lock()
        self._polled: dict[str, _Polled] = {}
        self._failed_at = 0.0
        self._failure: UnavailableError | None = None

    def read(self, name: str, run_ids: tuple[str, ...], namespace: str) -> ServerRun | None:
        """Return the run with the first of these ids that exists. ``namespace``: of a multi-user server.

        Raises:
            UnavailableError: it cannot be read now.
        """
        with self._lock:
            now = self._clock()
            polled = self._polled.get(name)
            if polled is None or polled.run_ids != run_ids:
                polled = _Polled(run_ids, namespace, now, now)
                self._refresh([polled], now)
                self._polled[name] = polled
            polled.asked_at = now
            if not self._is_recent(polled.read_at, now):
                self._refresh(self._asked_for(now), now)
        return parse_run(polled.rows[0]) if polled.rows else None

    def forget(self, name: str) -> None:
        """Request the run when it is asked for again, and not before."""
        with self._lock:
            self._polled.pop(name, None)

    def _asked_for(self, now: float) -> Iterable[_Polled]:
        self._polled = {name: each for name, each in self._polled.items() if now - each.asked_at < _FORGET_SECONDS}
        return self._polled.values()

    def _refresh(self, polled: Iterable[_Polled], now: float) -> None:
        if self._failure is not None and self._is_recent(self._failed_at, now):
            raise UnavailableError(self._failure.message)
        by_namespace = defaultdict(list)
        for each in polled:
            by_namespace[each.namespace].append(each)
        try:
            for namespace, runs in by_namespace.items():
                self._read(namespace, runs, now)
        except UnavailableError as error:
            self._failed_at, self._failure = now, error
            raise
        self._failure = None

    def _read(self, namespace: str, runs: Sequence[_Polled], now: float) -> None:
        ids = [run_id for run in runs for run_id in run.run_ids]
        rows: dict[str, Json] = {}
        for start in range(0, len(ids), MAX_LISTED_RUNS):
            rows |= self._server.list_runs(ids[start : start + MAX_LISTED_RUNS], namespace)
        for run in runs:
            run.rows = tuple(rows[run_id] for run_id in run.run_ids if run_id in rows)
            run.read_at = now

    @staticmethod
    def _is_recent(at: float, now: float) -> bool:
        return 0 <= now - at < PERIOD_SECONDS
