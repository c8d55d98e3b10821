"""Sends what ended trainers of a run left in its spool, over the run's line or, in the server, without one."""

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.errors import InvalidError, UnavailableError
from windlass.domain.reports import ReportBatch, ReportReply
from windlass.runtime.client import RunClient
from windlass.runtime.context import RunContext
from windlass.runtime.reporter import ENDED, Send, deliver
from windlass.runtime.spool import Journal, JournalDamagedError, JournalHeldError, folder_of

_log = logging.getLogger(__name__)
_JOURNAL_NAME = re.compile(r"(\d+)-([a-z][a-z0-9-]{0,39})\.jsonl")


def drain(context: RunContext, timeout: float = 60.0, *, but: str | None = None) -> bool:
    """Send what ended trainers of this run left; call it before the loss of an attempt is reported.

    The driver's journal goes last, as the result in it ends the attempt. Journals of a living process, and those of
    source ``but``, are left alone. Returns whether nothing is left: sent, or not wanted because the attempt is over.
    """
    with RunClient(context) as client:
        return _drain(context.workspace, client.report, timeout, but)


def drain_ended(workspace: Path, report: Callable[[int, ReportBatch], ReportReply]) -> bool:
    """Hand over what a run left whose processes have all ended; call it before its attempt is closed.

    ``report`` takes a batch of an attempt, as the internal API does for a living trainer, and raises as it does. What
    the control plane cannot take now stays for another call. Returns whether nothing is left.
    """

    def send(attempt: int, body: bytes) -> ReportReply:
        try:
            batch = ReportBatch.model_validate_json(body)
        except ValidationError as error:
            raise InvalidError(f"no batch of reports: {error.error_count()} problems") from error
        return report(attempt, batch)

    return _drain(workspace, send, 0.0, None)


def _drain(workspace: Path, send: Send, timeout: float, but: str | None) -> bool:
    deadline = time.monotonic() + timeout
    found = [(path, _JOURNAL_NAME.fullmatch(path.name)) for path in folder_of(workspace).glob("*.jsonl")]
    ordered = sorted((int(name[1]), name[2] == "driver", name[2], path) for path, name in found if name)
    clean = True
    for attempt, _, source, path in ordered:
        if source != but:
            clean = clean and _drain_one(send, path, attempt, source, deadline)
    return clean


def _drain_one(send: Send, path: Path, attempt: int, source: str, deadline: float) -> bool:
    try:
        journal = Journal(path)
    except JournalHeldError:
        return False
    except JournalDamagedError as error:
        _log.error("a journal is damaged and put aside: %s", error)
        path.replace(path.with_suffix(".damaged"))
        return True
    done = False
    try:
        while not journal.empty():
            batch = journal.next()
            try:
                deliver(send, attempt, source, batch)
            except UnavailableError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.5)
            else:
                journal.acknowledge(batch.sequence)
        done = True
    except ENDED:
        done = True
    finally:
        journal.close(discard=done)
    return done
