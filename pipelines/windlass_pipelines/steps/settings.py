"""How the steps behave: set by whoever runs the server, through the environment; never by a tenant."""

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
    lives: int = Field(default=3, ge=1)
    """How often one run starts its trainer before it gives up."""
    pauses: tuple[float, ...] = (1.0, 10.0)
    """Before the second life, the third, ...; the last one repeats."""
    hang_grace: float = 600.0
    """Beyond the job's maximum duration: start-up, waiting for the fence, evaluation, a server that is away."""
    stop_grace: float = 60.0
    """From SIGTERM to SIGKILL."""
    patience: float = 86_400.0
    """How long a step waits for a control plane that is away."""

    @classmethod
    def load(cls) -> "StepSettings":
        """Read them from the environment."""
        return cls.model_validate_json(os.environ.get(SETTINGS_VARIABLE, "{}"))
