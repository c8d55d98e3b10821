"""How a pipeline run ended: the file that the run's process leaves in its workspace as its last act."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

_NAME = "run.json"


class RunEnd(BaseModel):
    """``stopped``: it obeyed a preempt or cancel command, or SIGTERM; ``lost``: what it stood on is gone."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    state: Literal["succeeded", "failed", "stopped", "lost"]
    message: str = ""

    def save(self, workspace: Path) -> None:
        """Write atomically, durable when this returns."""
        draft = workspace / f"{_NAME}.tmp"
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(self.model_dump_json())
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(workspace / _NAME)

    @classmethod
    def load(cls, workspace: Path) -> "RunEnd | None":
        """Read it, None while the run has not ended."""
        try:
            return cls.model_validate_json((workspace / _NAME).read_bytes())
        except FileNotFoundError:
            return None
