"""Settings of the steps, set by the server's operator through the environment, not by tenants."""

import os
import sys

from pydantic import BaseModel, ConfigDict, Field

SETTINGS_VARIABLE = "WINDLASS_STEP_SETTINGS"
"""Environment variable with ``StepSettings`` as JSON; unset means the defaults."""


class StepSettings(BaseModel):
    """Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer: tuple[str, ...] = (sys.executable, "-m", "windlass_pipelines.train")
    """Program and arguments of the trainer."""
    max_trainer_starts: int = Field(default=3, ge=1)
    """Maximum number of trainer starts in a row without a new checkpoint."""
    restart_backoff_seconds: tuple[float, ...] = (1.0, 10.0)
    """Delays after the first failure without a new checkpoint, the second and so on; the last one repeats."""
    hang_timeout_seconds: float = 600.0
    """Time beyond the job's maximum duration for start-up, acquiring an attempt, evaluation and server outages."""
    termination_grace_seconds: float = 60.0
    """From SIGTERM to SIGKILL."""
    control_plane_timeout_seconds: float = 86_400.0
    """How long a step retries while the control plane is unavailable."""

    @classmethod
    def load(cls) -> "StepSettings":
        """Read the settings from the environment."""
        return cls.model_validate_json(os.environ.get(SETTINGS_VARIABLE, "{}"))
