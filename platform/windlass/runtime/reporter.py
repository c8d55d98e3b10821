"""Reports the progress of an attempt to the control plane from a background thread; survives outages.

Items are written to a spool on disk first and sent from there in numbered batches, at most one request per
``interval``. Responses carry commands. ``windlass.runtime.flush`` sends the reports of trainers that have exited.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Condition, Thread
from typing import Any

from windlass.domain.errors import WindlassError
from windlass.domain.reports import (
    CheckpointItem,
    Command,
    EventItem,
    MetricItem,
    ReportItem,
    ResultItem,
)
from windlass.domain.text import replace_unencodable, replace_unstorable
from windlass.kit.backoff import Backoff
from windlass.runtime.client import RUN_ENDED_ERRORS, RunApiClient
from windlass.runtime.context import RunEnvironment
from windlass.runtime.delivery import deliver, send_heartbeat
from windlass.runtime.spool import ReportSpool, spool_dir
from windlass.runtime.timed_lines import TimedLines

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReporterTimings:
    """Seconds: minimum between two requests, between heartbeats, and the maximum backoff during an outage."""

    interval: float = 1.0
    heartbeat: float = 2.0
    backoff: float = 8.0


class Reporter:
    """Reports for one source (``driver``, ``rank0``) of one attempt. Thread-safe."""

    def __init__(
        self,
        environment: RunEnvironment,
        attempt: int,
        source: str,
        *,
        timings: ReporterTimings | None = None,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> None:
        self.command = Command.CONTINUE
        """The latest command; it never returns to ``continue``."""
        self.fenced = False
        """Whether the attempt is fenced: the trainer must stop at once."""
        self._attempt, self._source = attempt, source
        self._timings = timings or ReporterTimings()
        self._on_fenced = on_fenced
        self._spool = ReportSpool(spool_dir(environment.workspace) / f"{attempt}-{source}.jsonl")
        self._client = RunApiClient(environment)
        self._condition = Condition()
        self._close_deadline: float | None = None
        self._closing = False
        self._flush_now = False
        self._failures = 0
        self._backoff = Backoff(self._timings.interval * 2, self._timings.backoff)
        self._log_lines = TimedLines()
        self._thread = Thread(target=self._run, name=f"reporter-{source}", daemon=True)
        self._thread.start()

    def metric(self, name: str, step: int, value: float) -> None:
        """Report one point; a non-finite value is dropped because JSON cannot represent it."""
        if math.isfinite(value):
            self.put(MetricItem(name=name, step=step, value=value, time=_now()))

    def event(self, code: str, message: str, **context: Any) -> None:
        """Report a typed event; its message is also a line of the log."""
        text = replace_unstorable(message[:2000])
        self.log(f"{text}\n")
        self.put(EventItem(code=code, message=text, context=context, time=_now()))

    def log(self, text: str) -> None:
        """Report log text; it is sent in whole lines."""
        with self._condition:
            self._log_lines.add(replace_unencodable(text))

    def put(self, item: ReportItem) -> int:
        """Report an item and return its ordinal (see ``acknowledged``). Results and checkpoints are sent at once."""
        with self._condition:
            self._spool_text()
            ordinal = self._spool_item(item)
            if isinstance(item, ResultItem | CheckpointItem):
                self._flush_now = True
                self._condition.notify_all()
            return ordinal

    @property
    def acknowledged(self) -> int:
        """Ordinal of the newest item that the control plane has acknowledged."""
        return self._spool.acknowledged

    def close(self, timeout: float = 10.0) -> bool:
        """Send pending items and stop; return whether all are acknowledged. Others stay in the spool."""
        with self._condition:
            self._spool_text(include_partial=True)
            self._close_deadline = time.monotonic() + timeout
            self._condition.notify_all()
        self._thread.join(timeout + 1)
        if self._thread.is_alive():
            return False  # its request hangs; as a daemon thread it ends with the process
        done = self._spool.is_empty()
        self._spool.close(discard=done or self.fenced)
        self._client.close()
        return done

    def close_with(self, item: ReportItem, timeout: float = 15.0) -> None:
        """Stop at once and append a last item to the spool without sending it; ``flush_reports`` sends it in order."""
        with self._condition:
            self._spool_text(include_partial=True)
            self._closing = True
            self._condition.notify_all()
        self._thread.join(timeout)
        self._spool_item(item)
        self._spool.close()

    def _spool_item(self, item: ReportItem) -> int:
        ordinal = self._spool.put(item.model_dump_json(), item.type)
        if dropped := self._spool.drop_excess():
            counts = ", ".join(f"{count} {kind} items" for kind, count in dropped.items())
            message = f"{counts} of {self._source} were dropped: the control plane has been unavailable for too long"
            event = EventItem(code="reports_dropped", message=message, context=dict(dropped), time=_now())
            self._spool.put(event.model_dump_json(), event.type)
        return ordinal

    def _spool_text(self, *, include_partial: bool = False) -> None:
        for item in self._log_lines.take(include_partial=include_partial):
            self._spool_item(item)

    def _run(self) -> None:
        last = time.monotonic() - self._timings.interval
        while not self.fenced:
            with self._condition:
                self._wait_until_due(last)
                if self._closing:
                    return
                self._spool_text()
                if self._close_deadline is not None and (
                    self._spool.is_empty() or time.monotonic() > self._close_deadline
                ):
                    return
                self._flush_now = False
            self._send()
            last = time.monotonic()

    def _wait_until_due(self, last: float) -> None:
        timings = self._timings
        while True:
            pause = timings.interval if self._spool.has_unsent() or self._log_lines else timings.heartbeat
            if self._failures:
                pause = self._backoff.delay(self._failures)
            if self._close_deadline is not None:
                pause = min(pause, timings.interval) if self._failures else 0.0
            elif self._flush_now and not self._failures:
                pause = min(pause, timings.interval)
            remaining = last + pause - time.monotonic()
            if remaining <= 0 or self._closing:
                return
            self._condition.wait(min(remaining, timings.interval))

    def _send(self) -> None:
        """Send the next batch, after a failure a heartbeat before it.

        Log text needs the object store, heartbeats only the database: without them an outage of the object store would
        end the attempt, and keep commands from it.
        """
        try:
            if self._failures and self._close_deadline is None:
                self._obey(send_heartbeat(self._client.report, self._spool, self._source, self._attempt))
            self._obey(deliver(self._client.report, self._spool, self._attempt, self._source))
        except RUN_ENDED_ERRORS as error:
            _log.warning("attempt %d is fenced: %s", self._attempt, error.message)
            self.fenced = True
            self._on_fenced()
        except WindlassError as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("reports of attempt %d wait: %s", self._attempt, error.message)
        except Exception:  # noqa: BLE001 - without this thread the attempt has no heartbeats and gets no commands
            self._failures += 1
            _log.exception("reports of attempt %d cannot be sent", self._attempt)
        else:
            self._failures = 0

    def _obey(self, command: Command) -> None:
        if command is not Command.CONTINUE:
            self.command = command


def _now() -> datetime:
    return datetime.now(UTC)
