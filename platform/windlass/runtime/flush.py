"""Delivers the reports that exited trainers left in the spools of a run, over HTTP or inside the server."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.errors import InvalidError, WindlassError
from windlass.domain.reports import ReportBatch, ReportReply
from windlass.runtime.client import RUN_ENDED_ERRORS, RunApiClient
from windlass.runtime.context import RunEnvironment
from windlass.runtime.delivery import SendBatch, deliver
from windlass.runtime.spool import ReportSpool, SpoolCorruptedError, SpoolLockedError, spool_dir

_log = logging.getLogger(__name__)
_SPOOL_FILE_NAME = re.compile(r"(\d+)-([a-z][a-z0-9-]{0,39})\.jsonl")
_RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class PendingSpool:
    """A spool whose reports are not delivered, and the cause.

    ``holds_result`` is None when a process has locked the spool, so that its reports cannot be read.
    """

    attempt: int
    source: str
    cause: str
    holds_result: bool | None = None


def flush_reports(
    environment: RunEnvironment, timeout: float = 60.0, *, exclude: str | None = None
) -> list[PendingSpool]:
    """Send the spooled reports of exited trainers; call it before reporting the loss of an attempt.

    The driver's spool is sent last, because the result in it ends the attempt. Spools of source ``exclude`` are
    skipped. Returns the spools that still hold reports; empty when all are sent, or dropped because the attempt has
    ended.
    """
    with RunApiClient(environment) as client:
        return _flush(environment.workspace, client.report, timeout, exclude)


def flush_workspace_reports(workspace: Path, report: Callable[[int, ReportBatch], ReportReply]) -> list[PendingSpool]:
    """Deliver the spooled reports of a run whose processes have all exited; call it before closing its attempt.

    ``report`` accepts a batch of an attempt and raises like the internal API. Returns the spools that still hold
    reports, which ``report`` cannot accept now.
    """

    def send(attempt: int, body: bytes) -> ReportReply:
        try:
            batch = ReportBatch.model_validate_json(body)
        except ValidationError as error:
            raise InvalidError(f"invalid report batch: {error.error_count()} validation errors") from error
        return report(attempt, batch)

    return _flush(workspace, send, 0.0, None)


def _flush(workspace: Path, send: SendBatch, timeout: float, exclude: str | None) -> list[PendingSpool]:
    deadline = time.monotonic() + timeout
    matches = [(path, _SPOOL_FILE_NAME.fullmatch(path.name)) for path in spool_dir(workspace).glob("*.jsonl")]
    ordered = sorted((int(name[1]), name[2] == "driver", name[2], path) for path, name in matches if name)
    results = [
        _flush_spool(send, path, attempt, source, deadline) for attempt, _, source, path in ordered if source != exclude
    ]
    return [pending for pending in results if pending is not None]


def _flush_spool(send: SendBatch, path: Path, attempt: int, source: str, deadline: float) -> PendingSpool | None:
    try:
        spool = ReportSpool(path)
    except SpoolLockedError:
        return PendingSpool(attempt, source, "a process is still writing it")
    except SpoolCorruptedError as error:
        _log.error("corrupted spool renamed to .corrupted: %s", error)
        path.replace(path.with_suffix(".corrupted"))
        return None
    except OSError as error:
        return PendingSpool(attempt, source, f"it cannot be read: {error}")
    cause = _deliver_all(send, spool, attempt, source, deadline)
    pending = PendingSpool(attempt, source, cause, spool.holds("result")) if cause else None
    spool.close(discard=pending is None)
    return pending


def _deliver_all(send: SendBatch, spool: ReportSpool, attempt: int, source: str, deadline: float) -> str:
    """Deliver every batch; return why reports are left, empty when none is."""
    while not spool.is_empty():
        try:
            deliver(send, spool, attempt, source)
        except RUN_ENDED_ERRORS:
            return ""
        except WindlassError as error:
            if time.monotonic() >= deadline:
                return error.message
            time.sleep(_RETRY_SECONDS)
    return ""
