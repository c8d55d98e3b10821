"""The result of an attempt, which rank 0 returns to the driver, and the errors that end an attempt."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from windlass.domain.artifacts import Manifest
from windlass.domain.reports import JobWarning, PhaseSeconds, ResultStatus


class TrainingError(Exception):
    """Training failed, and another attempt would fail the same way. ``code`` is stable; ``message`` is for users."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class StoppedError(Exception):
    """The control plane requested a stop: ``code`` is ``cancelled``, or ``preempted`` after a committed checkpoint."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class AttemptFencedError(Exception):
    """This attempt is fenced and must not write."""


class AttemptResult(BaseModel):
    """The return value of rank 0; a ``fenced`` attempt reports no result to the control plane."""

    model_config = ConfigDict(frozen=True)
    outcome: ResultStatus
    code: str = ""
    message: str = ""
    fenced: bool = False
    manifest: Manifest | None = None
    evaluation: dict[str, Any] | None = None
    warnings: tuple[JobWarning, ...] = ()
    trained_seconds: float = 0.0
    phases: PhaseSeconds | None = None
