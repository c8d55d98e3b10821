"""Reads the runs that are polled together: the number of requests does not depend on the number of runs."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from windlass.domain.errors import UnavailableError
from windlass.orchestration.kfp.client import MAX_LISTED_RUNS, Json, KfpClient, has_no_reply, parse_run
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
    requests for single runs. A run that is asked for the first time is requested alone. A failure counts for the two
    seconds after it, so that a server which does not reply is asked once, and not for each run. Only runs of the same
    namespace share a request and its failure: a server may reject one namespace, as of a deleted project.

    Args:
        server: the server.
        clock: seconds.
    """

    def __init__(self, server: KfpClient, clock: Callable[[], float]) -> None:
        self._server, self._clock = server, clock
        self._lock = threading.Lock()
        self._polled: dict[str, _Polled] = {}
        self._failures: dict[str | None, tuple[float, str]] = {}
        """The last failure in each namespace and when it was known; None: the server has not replied at all."""

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
                self._refresh([polled], namespace)
                self._polled[name] = polled
            polled.asked_at = now
            if not self._is_recent(polled.read_at):
                self._refresh([each for each in self._asked_for(now) if each.namespace == namespace], namespace)
        return parse_run(polled.rows[0]) if polled.rows else None

    def forget(self, name: str) -> None:
        """Request the run when it is asked for again, and not before."""
        with self._lock:
            self._polled.pop(name, None)

    def _asked_for(self, now: float) -> Iterable[_Polled]:
        self._polled = {name: each for name, each in self._polled.items() if now - each.asked_at < _FORGET_SECONDS}
        return self._polled.values()

    def _refresh(self, runs: Sequence[_Polled], namespace: str) -> None:
        """Read runs of one namespace. The time counts from the reply: one may take longer than the period."""
        for failed_at, message in (self._failures[key] for key in (None, namespace) if key in self._failures):
            if self._is_recent(failed_at):
                raise UnavailableError(message)
        try:
            self._read(namespace, runs)
        except UnavailableError as error:
            self._failures[None if has_no_reply(error) else namespace] = self._clock(), error.message
            raise
        self._failures.pop(namespace, None)

    def _read(self, namespace: str, runs: Sequence[_Polled]) -> None:
        ids = [run_id for run in runs for run_id in run.run_ids]
        rows: dict[str, Json] = {}
        for start in range(0, len(ids), MAX_LISTED_RUNS):
            rows |= self._server.list_runs(ids[start : start + MAX_LISTED_RUNS], namespace)
        now = self._clock()
        for run in runs:
            run.rows = tuple(rows[run_id] for run_id in run.run_ids if run_id in rows)
            run.read_at = now

    def _is_recent(self, at: float) -> bool:
        return 0 <= self._clock() - at < PERIOD_SECONDS
