"""Reports a running step: its state, to the control plane and to a file in the workspace, and its log."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from windlass.domain.errors import WindlassError
from windlass.domain.jobs import Reason
from windlass.domain.reports import LogItem
from windlass.domain.text import replace_unencodable, replace_unstorable
from windlass.kit.files import write_atomic
from windlass.ports import RunLostError
from windlass.runtime.client import RUN_ENDED_ERRORS, RunApiClient
from windlass.runtime.delivery import REJECTED_ERRORS
from windlass.runtime.timed_lines import TimedLines
from windlass.wire.runs import MAX_LOG_ITEMS, PRODUCER_ID_BYTES, StepState

STOPPED = "stopped"
"""Outcome of a step whose run was stopped."""
LOST = "lost"
"""Outcome of a step that lost what its trainer needs; another run of the job may succeed."""

_MAX_CHUNK = 65_536
_MAX_BACKLOG = 4_000_000
_MAX_MESSAGE_LENGTH = 2000


class StepStatus(BaseModel):
    """A step's state in the run's workspace, for the process that runs the pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: StepState
    message: str = ""
    outcome: str = ""
    """The step's return value."""
    reason: Reason | None = None
    """Why it has failed, where that can be explained."""

    def save(self, workspace: Path, step: str) -> None:
        """Write the status file atomically; durable when this returns."""
        path = _status_folder(workspace) / f"{step}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, self.model_dump_json())


def read_statuses(workspace: Path) -> dict[str, StepStatus]:
    """Return the statuses of the steps that started, by name."""
    paths = _status_folder(workspace).glob("*.json")
    return {path.stem: StepStatus.model_validate_json(path.read_bytes()) for path in paths}


def _status_folder(workspace: Path) -> Path:
    return workspace / "steps"


class StepFailedError(Exception):
    """The step has failed for a known reason. The message is for the log of the step."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.message, self.reason = message, reason


class StepLog:
    """The log of one step: lines with the time at which they were written, sent in numbered chunks.

    They are buffered, up to a limit, while the control plane is unavailable. The numbers are those of this process: if
    another one has run the step before, as in a pod that was replaced, its chunks stay, and these follow them.
    """

    def __init__(self, client: RunApiClient, step: str) -> None:
        self._client = client
        self._step = step
        self._producer = secrets.token_hex(PRODUCER_ID_BYTES)
        self._sequence = 1
        self._lines = TimedLines()
        self._items: list[LogItem] = []
        self._sending = 0
        """Number of the first items that were sent and not acknowledged; 0 when there are none."""

    def line(self, text: str) -> None:
        """Add a line."""
        self.add(f"{text}\n")

    def add(self, text: str) -> None:
        """Add text unchanged."""
        self._lines.add(replace_unencodable(text))
        self._items += self._lines.take()
        if sum(len(item.text) for item in self._items) > _MAX_BACKLOG:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop the older half of the text that has not been sent."""
        sent, rest = self._items[: self._sending], self._items[self._sending :]
        excess = sum(len(item.text) for item in rest) - _MAX_BACKLOG // 2
        while rest and excess > 0:
            excess -= len(rest.pop(0).text)
        time = rest[0].time if rest else datetime.now(UTC)
        self._items = [*sent, LogItem(text="[earlier output was dropped]\n", time=time), *rest]

    def flush(self, *, partial_line: bool = False) -> None:
        """Send the complete lines, with ``partial_line`` all text; text that cannot be sent stays buffered.

        A chunk that is sent again has the same text: the control plane ignores it when only its reply was lost.
        """
        self._items += self._lines.take(include_partial=partial_line)
        while self._items:
            self._sending = self._sending or self._next_chunk()
            try:
                self._client.append_log(self._step, self._producer, self._sequence, self._items[: self._sending])
            except WindlassError as error:
                # a rejected chunk would be rejected again and block the chunks after it; an ended run accepts none
                if not isinstance(error, (*REJECTED_ERRORS, *RUN_ENDED_ERRORS)):
                    return
            self._sequence += 1
            self._items, self._sending = self._items[self._sending :], 0

    def _next_chunk(self) -> int:
        """Return the number of items of the next chunk, at least one."""
        size = number = 0
        for number, item in enumerate(self._items[:MAX_LOG_ITEMS]):
            size += len(item.text)
            if size > _MAX_CHUNK:
                return max(1, number)
        return number + 1


class StepContext:
    """A running step: its log and the ``outcome`` to save in its status."""

    def __init__(self, log: StepLog) -> None:
        self.log = log
        self.outcome = ""


@contextmanager
def step(name: str, workspace: Path, client: RunApiClient) -> Iterator[StepContext]:
    """Report the step as running, then as succeeded or failed; errors are raised."""
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # kfp sets the root logger to INFO, which logs every request
    step_context = StepContext(StepLog(client, name))
    StepStatus(state="running").save(workspace, name)
    try:
        client.set_step_state(name, "running")
        yield step_context
    except Exception as error:
        status = StepStatus(
            state="failed",
            message=_error_message(error),
            outcome=_outcome(error),
            reason=error.reason if isinstance(error, StepFailedError) else None,
        )
        _close(name, workspace, step_context.log, client, status)
        raise
    _close(name, workspace, step_context.log, client, StepStatus(state="succeeded", outcome=step_context.outcome))


def _error_message(error: Exception) -> str:
    if isinstance(error, (WindlassError, StepFailedError)):
        return replace_unstorable(error.message)
    return replace_unstorable(str(error) if isinstance(error, RunLostError) else f"{type(error).__name__}: {error}")


def _outcome(error: Exception) -> str:
    if isinstance(error, RunLostError):
        return LOST
    return STOPPED if isinstance(error, RUN_ENDED_ERRORS) else ""


def _close(name: str, workspace: Path, log: StepLog, client: RunApiClient, status: StepStatus) -> None:
    status = status.model_copy(update={"message": status.message[:_MAX_MESSAGE_LENGTH]})
    status.save(workspace, name)
    if status.state == "failed":
        log.line(f"failed: {status.message}")
    log.flush(partial_line=True)
    # The status file has the result too, so a failed report must not fail the step.
    with suppress(WindlassError):
        client.set_step_state(name, status.state, status.message)
