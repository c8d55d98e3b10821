"""What a step tells while it runs: its state, to the control plane and into the workspace, and its log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from windlass.domain.errors import UnavailableError, WindlassError
from windlass.runtime.context import RunContext
from windlass_pipelines.steps.client import RUN_IS_OVER, ControlPlane, StepState

STOPPED = "stopped"
"""Outcome of a step that found that the run is no longer wanted."""
LOST = "lost"
"""Outcome of a step that lost what the run stands on; another run of the job may find it again."""

_CHUNK = 65_536
_LONGEST_BACKLOG = 4_000_000
_LONGEST_MESSAGE = 2000


class RunLostError(Exception):
    """What the run stands on is gone, through no fault of its job."""


class StepNote(BaseModel):
    """A step's state in the run's workspace, for the process that runs the pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: StepState
    message: str = ""
    outcome: str = ""
    """What the step returned."""

    def save(self, workspace: Path, step: str) -> None:
        """Write atomically."""
        path = _notes(workspace) / f"{step}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_text(self.model_dump_json(), encoding="utf-8")
        draft.replace(path)


def read_notes(workspace: Path) -> dict[str, StepNote]:
    """Return the notes of the steps that began, by name."""
    paths = _notes(workspace).glob("*.json")
    return {path.stem: StepNote.model_validate_json(path.read_bytes()) for path in paths}


def _notes(workspace: Path) -> Path:
    return workspace / "steps"


class StepLog:
    """Lines of one step, shipped in numbered chunks. Text is kept while the control plane is away, up to a limit."""

    def __init__(self, plane: ControlPlane, step: str) -> None:
        self._plane = plane
        self._step = step
        self._sequence = 1
        self._text = ""

    def line(self, text: str) -> None:
        """Add a line of the step's own, with the time."""
        self.add(f"{datetime.now(UTC):%H:%M:%S} {text}\n")

    def add(self, text: str) -> None:
        """Add text as it is."""
        self._text += text
        if len(self._text) > _LONGEST_BACKLOG:
            self._text = "[the beginning of this was dropped]\n" + self._text[-_LONGEST_BACKLOG // 2 :]

    def ship(self, *, whole: bool = False) -> None:
        """Send the complete lines, or all with ``whole``; what cannot be sent now is kept."""
        while self._text:
            end = min(len(self._text), _CHUNK)
            if not whole:
                end = self._text.rfind("\n", 0, end) + 1 or (_CHUNK if len(self._text) >= _CHUNK else 0)
            if not end:
                return
            try:
                self._plane.log(self._step, self._sequence, self._text[:end], once=True)
            except UnavailableError:
                return
            except WindlassError:
                # A chunk that is refused would be refused again, and hold up what comes after it.
                pass
            self._sequence += 1
            self._text = self._text[end:]


class Progress:
    """The step under way; ``outcome`` is what its note will say that it returned."""

    def __init__(self, log: StepLog) -> None:
        self.log = log
        self.outcome = ""


@contextmanager
def step(name: str, context: RunContext, plane: ControlPlane) -> Iterator[Progress]:
    """Tell that the step runs, then how it ended; an error passes on."""
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # kfp logs everything from INFO on: every request
    progress = Progress(StepLog(plane, name))
    StepNote(state="running").save(context.workspace, name)
    try:
        plane.step(name, "running")
        yield progress
    except Exception as error:
        note = StepNote(state="failed", message=_words(error), outcome=_outcome(error))
        _close(name, context, progress.log, plane, note)
        raise
    _close(name, context, progress.log, plane, StepNote(state="succeeded", outcome=progress.outcome))


def _words(error: Exception) -> str:
    if isinstance(error, WindlassError):
        return error.message
    return str(error) if isinstance(error, RunLostError) else f"{type(error).__name__}: {error}"


def _outcome(error: Exception) -> str:
    if isinstance(error, RunLostError):
        return LOST
    return STOPPED if isinstance(error, RUN_IS_OVER) else ""


def _close(name: str, context: RunContext, log: StepLog, plane: ControlPlane, note: StepNote) -> None:
    note = note.model_copy(update={"message": note.message[:_LONGEST_MESSAGE]})
    note.save(context.workspace, name)
    if note.state == "failed":
        log.line(f"failed: {note.message}")
    log.ship(whole=True)
    # The note carries it too: that the step's end cannot be told must not change how the step ended.
    with suppress(WindlassError):
        plane.step(name, note.state, note.message)
