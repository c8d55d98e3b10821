"""Result of a pipeline run: a file that the run's process writes to its workspace before it exits."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from windlass.domain.jobs import Reason
from windlass.kit.files import write_atomic

TERMINATION_LOG_VARIABLE = "WINDLASS_RUN_TERMINATION_LOG"
"""Environment variable with the path of a pod's termination message, by which a run in a pod returns its result."""
RESULT_PREFIX = "windlass-run-result: "
"""Begins the line of the log by which a run on a Kubeflow Pipelines server returns its result."""
_NAME = "run.json"
_TERMINATION_BYTES = 4096
"""Kubernetes truncates longer termination messages."""


class RunResult(BaseModel):
    """``stopped``: after a preempt or cancel command, or SIGTERM; ``lost``: its Ray head or workspace disappeared."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: Literal["succeeded", "failed", "stopped", "lost"]
    message: str = ""
    reason: Reason | None = None
    """Why it has failed, where what runs the trainer can explain it."""

    def save(self, workspace: Path) -> None:
        """Write atomically, durable when this returns."""
        write_atomic(workspace / _NAME, self.model_dump_json(exclude_none=True))

    def termination_message(self) -> str:
        """Return it as JSON that is short enough for the termination message of a pod."""
        limit = _TERMINATION_BYTES // 4
        shortened, length = self, max(len(self.message), len(self.reason.message) if self.reason else 0)
        while len(text := shortened.model_dump_json(exclude_defaults=True)) > limit:
            length = length * 3 // 4
            # the message of the reason has what its details repeat
            reason = self.reason and self.reason.model_copy(
                update={"message": self.reason.message[:length], "context": {}}
            )
            shortened = self.model_copy(update={"message": self.message[:length], "reason": reason})
        return text

    def log_line(self) -> str:
        """Return the line by which a run on a Kubeflow Pipelines server returns it."""
        return f"{RESULT_PREFIX}{self.termination_message()}"

    @classmethod
    def of_log(cls, log: str) -> "RunResult | None":
        """Return the result in the last line of a log that is one, None if there is none.

        Texts of users may be within a line, such as in the exception of a step, and have other line separators.
        """
        for line in reversed(log.split("\n")):
            if line.startswith(RESULT_PREFIX):
                try:
                    return cls.model_validate_json(line.removeprefix(RESULT_PREFIX))
                except ValidationError:
                    continue  # a line that was cut off
        return None

    @classmethod
    def load(cls, workspace: Path) -> "RunResult | None":
        """Read the result; None while the run has not ended."""
        try:
            return cls.model_validate_json((workspace / _NAME).read_bytes())
        except FileNotFoundError:
            return None
