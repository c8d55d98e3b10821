"""Tells the control plane what an attempt does, from a background thread; loses nothing while it is away.

Items go to a journal on disk at once, and from there in numbered batches, at most one request per ``interval``.
The replies carry commands. ``windlass.runtime.draining`` sends what dead trainers of a run left behind.
"""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Condition, Thread
from typing import Any

from windlass.domain.errors import (
    FencedError,
    ForbiddenError,
    NotFoundError,
    PreconditionFailedError,
    UnauthenticatedError,
    UnavailableError,
    WindlassError,
)
from windlass.domain.reports import (
    CheckpointItem,
    Command,
    EventItem,
    LogItem,
    MetricItem,
    ReportItem,
    ReportReply,
    ResultItem,
)
from windlass.runtime.client import RunClient
from windlass.runtime.context import RunContext
from windlass.runtime.spool import Batch, Journal, folder_of

_log = logging.getLogger(__name__)
ENDED = (FencedError, UnauthenticatedError, ForbiddenError, NotFoundError)
"""Answers after which this attempt may write no more: it is fenced, or its run's token is revoked."""
_LOG_CHARACTERS = 65_536

Send = Callable[[int, bytes], ReportReply]
"""Takes a serialised ``ReportBatch`` of an attempt."""


@dataclass(frozen=True)
class Pace:
    """Seconds: the least between two requests, between heartbeats, and the longest pause while the line is down."""

    interval: float = 1.0
    heartbeat: float = 2.0
    backoff: float = 8.0


class Reporter:
    """The voice of one source (``driver``, ``rank0``) of one attempt. Every method may be called from any thread."""

    def __init__(
        self,
        context: RunContext,
        attempt: int,
        source: str,
        *,
        pace: Pace | None = None,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> None:
        self.command = Command.CONTINUE
        """The newest command; it never goes back to ``continue``."""
        self.fenced = False
        """Whether this attempt may write no more: stop at once."""
        self._attempt, self._source = attempt, source
        self._pace = pace or Pace()
        self._on_fenced = on_fenced
        self._journal = Journal(folder_of(context.workspace) / f"{attempt}-{source}.jsonl")
        self._client = RunClient(context)
        self._wake = Condition()
        self._give_up: float | None = None
        self._leaving = False
        self._hurry = False
        self._failures = 0
        self._text: list[str] = []
        self._thread = Thread(target=self._run, name=f"reporter-{source}", daemon=True)
        self._thread.start()

    def metric(self, name: str, step: int, value: float) -> None:
        """Report one point; a value that is not finite is left out, JSON cannot carry it."""
        if math.isfinite(value):
            self.put(MetricItem(name=name, step=step, value=value, time=_now()))

    def event(self, code: str, message: str, **facts: Any) -> None:
        """Report a typed fact."""
        self.put(EventItem(code=code, message=message[:2000], facts=facts, time=_now()))

    def log(self, text: str) -> None:
        """Report text; it is shipped in whole lines."""
        with self._wake:
            self._text.append(text)

    def put(self, item: ReportItem) -> int:
        """Report an item; returns its ordinal, to compare with ``acknowledged``. A result makes the thread hurry."""
        with self._wake:
            self._ship_text()
            ordinal = self._journal.put(item.model_dump_json())
            if isinstance(item, ResultItem | CheckpointItem):
                self._hurry = True
                self._wake.notify_all()
            return ordinal

    @property
    def acknowledged(self) -> int:
        """Ordinal of the newest item that the control plane has."""
        return self._journal.acknowledged

    def close(self, timeout: float = 10.0) -> bool:
        """Send what is left and stop; returns whether everything is acknowledged, else it stays in the spool."""
        with self._wake:
            self._ship_text(whole=True)
            self._give_up = time.monotonic() + timeout
            self._wake.notify_all()
        self._thread.join(timeout + 1)
        if self._thread.is_alive():
            return False  # it is in a request that hangs; being a daemon, it ends with the process
        done = self._journal.empty()
        self._journal.close(discard=done or self.fenced)
        self._client.close()
        return done

    def leave(self, item: ReportItem, timeout: float = 15.0) -> None:
        """Stop at once and put a last item into the spool without sending it, for a later ``drain`` in order."""
        with self._wake:
            self._ship_text(whole=True)
            self._leaving = True
            self._wake.notify_all()
        self._thread.join(timeout)
        self._journal.put(item.model_dump_json())
        self._journal.close()

    def _ship_text(self, *, whole: bool = False) -> None:
        text = "".join(self._text)
        end = len(text) if whole else text.rfind("\n") + 1
        self._text = [text[end:]] if text[end:] else []
        for start in range(0, end, _LOG_CHARACTERS):
            piece = text[start : min(start + _LOG_CHARACTERS, end)]
            self._journal.put(LogItem(text=piece, time=_now()).model_dump_json())

    def _run(self) -> None:
        last = time.monotonic() - self._pace.interval
        while not self.fenced:
            with self._wake:
                self._wait_until_due(last)
                if self._leaving:
                    return
                self._ship_text()
                if self._give_up is not None and (self._journal.empty() or time.monotonic() > self._give_up):
                    return
                self._hurry = False
                batch = self._journal.next()
            self._send(batch)
            last = time.monotonic()

    def _wait_until_due(self, last: float) -> None:
        pace = self._pace
        while True:
            pause = pace.interval if self._journal.pending() or self._text else pace.heartbeat
            if self._failures:
                pause = min(pace.backoff, pace.interval * 2 ** min(self._failures, 6)) * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
            if self._give_up is not None:
                pause = min(pause, pace.interval) if self._failures else 0.0
            elif self._hurry and not self._failures:
                pause = min(pause, pace.interval)
            left = last + pause - time.monotonic()
            if left <= 0 or self._leaving:
                return
            self._wake.wait(min(left, pace.interval))

    def _send(self, batch: Batch) -> None:
        try:
            reply = deliver(self._client.report, self._attempt, self._source, batch)
        except UnavailableError:
            self._failures += 1
        except ENDED as error:
            _log.warning("attempt %d is fenced: %s", self._attempt, error.message)
            self.fenced = True
            self._on_fenced()
        else:
            self._failures = 0
            self._journal.acknowledge(batch.sequence)
            if reply is not Command.CONTINUE:
                self.command = reply


def deliver(send: Send, attempt: int, source: str, batch: Batch) -> Command:
    """Send a batch; one that is refused for its content counts as sent.

    Raises:
        WindlassError: it may be sent again, or the attempt may write no more (one of ``ENDED``).
    """
    body = f'{{"source":"{source}","sequence":{batch.sequence},"items":[{",".join(batch.items)}]}}'
    try:
        return send(attempt, body.encode()).command
    except (UnavailableError, *ENDED):
        raise
    except PreconditionFailedError as error:
        raise UnavailableError("somebody else wrote at the same time: send it again") from error
    except WindlassError as error:
        # a batch that is refused for its content would be refused for ever, and block all that comes after it
        _log.error("batch %d of %s is refused and dropped: %s", batch.sequence, source, error.message)
        return Command.CONTINUE


def _now() -> datetime:
    return datetime.now(UTC)
