"""How training ends: the errors that end an attempt with a reason, and what rank 0 hands to the driver."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from windlass.domain.artifacts import Manifest
from windlass.domain.reports import Outcome


class TrainingError(Exception):
    """Training cannot go on, and another attempt would end the same way. ``code`` is stable, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class StoppedError(Exception):
    """The control plane asked to stop; ``code`` says why. When preempted, a checkpoint was committed before."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class FencedOutError(Exception):
    """This attempt may write no more."""


class Conclusion(BaseModel):
    """The return value of rank 0: a result for the control plane, or ``fenced``, which has none."""

    model_config = ConfigDict(frozen=True)
    outcome: Outcome
    code: str = ""
    message: str = ""
    fenced: bool = False
    artifact_prefix: str | None = None
    manifest: Manifest | None = None
    evaluation: dict[str, Any] | None = None
    trained_seconds: float = 0.0
