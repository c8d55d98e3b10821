"""Delivers the batches of a spool, and decides from the error whether a report is kept, split or dropped."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from windlass.domain.errors import (
    BadRequestError,
    InvalidError,
    TooLargeError,
    WindlassError,
)
from windlass.domain.reports import Command, EventItem, ReportReply, ResultItem, ResultStatus
from windlass.runtime.spool import Batch, ReportSpool

_log = logging.getLogger(__name__)
REJECTED_ERRORS = (InvalidError, BadRequestError, TooLargeError)
"""The only errors after which a report is dropped: the control plane can never store it."""
_RESULT_REJECTED = "result_rejected"
_REPORT_REJECTED = "report_rejected"

SendBatch = Callable[[int, bytes], ReportReply]
"""Sends a serialised ``ReportBatch`` of an attempt."""


def deliver(send: SendBatch, spool: ReportSpool, attempt: int, source: str) -> Command:
    """Send the open batch of a spool once; remove it when it is stored or can never be.

    A rejected batch is split, so that one invalid item does not take valid ones with it.

    Raises:
        WindlassError: the batch stays in the spool, to be sent again unless the run has ended (``RUN_ENDED_ERRORS``).
    """
    batch = spool.next_batch()
    body = f'{{"source":"{source}","sequence":{batch.sequence},"items":[{",".join(batch.items)}]}}'
    try:
        command = send(attempt, body.encode()).command
    except REJECTED_ERRORS as error:
        if not batch.items:
            raise
        if not spool.split_batch():
            _replace_rejected(spool, batch, error)
        return Command.CONTINUE
    spool.acknowledge(batch.sequence)
    return command


def send_heartbeat(send: SendBatch, spool: ReportSpool, source: str, attempt: int) -> Command:
    """Send a heartbeat although the spool holds reports.

    Raises:
        WindlassError: the heartbeat is not stored.
    """
    body = f'{{"source":"{source}","sequence":{spool.sequence},"items":[]}}'
    return send(attempt, body.encode()).command


def _replace_rejected(spool: ReportSpool, batch: Batch, error: WindlassError) -> None:
    """Drop the only item of a batch; put a report of the rejection in its place."""
    item = json.loads(batch.items[0])
    kind = str(item.get("type", ""))
    _log.error("a report of type %s is rejected and dropped: %s", kind or "unknown", error.message)
    now = datetime.now(UTC)
    replacement: ResultItem | EventItem | None = None
    if kind == "result" and item.get("code") != _RESULT_REJECTED:
        # without a result, the run would wait for one or train again, to the same end
        message = f"the control plane rejected the result of the training: {error.message}"[:4000]
        replacement = ResultItem(outcome=ResultStatus.FAILED, code=_RESULT_REJECTED, message=message, time=now)
    elif kind != "result" and item.get("code") != _REPORT_REJECTED:
        message = f"a report of type {kind} was rejected and dropped: {error.message}"[:2000]
        replacement = EventItem(code=_REPORT_REJECTED, message=message, time=now)
    if replacement is not None:
        spool.put(replacement.model_dump_json(), replacement.type)
    spool.acknowledge(batch.sequence)
