"""Starts the trainer of a run where its GPUs are, and observes it."""

from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from windlass.domain.jobs import Reason
from windlass.runtime.context import RunContext


class RunLostError(Exception):
    """What the trainers of this run need is gone. The job has not failed: another run of it may succeed."""


class TrainerState(StrEnum):
    """The state of a trainer."""

    UNKNOWN = "unknown"
    """It was never launched, or a kill has removed what was known about it."""
    PENDING = "pending"
    """It waits for its resources, also after it has trained and was preempted."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """It ended after it reported its result, or stored it in its spool."""
    FAILED = "failed"
    """It ended otherwise; another start may succeed."""
    LOST = "lost"
    """What it needs is gone; no other start in this run can succeed."""


class TrainerStatus(BaseModel):
    """The newest start of a trainer."""

    model_config = ConfigDict(frozen=True)
    state: TrainerState
    start: int = 0
    exit_code: int | None = None
    """None while it runs, and where it cannot be known."""
    message: str = ""
    """How it ended, for the log of the run."""
    reason: Reason | None = None
    """Why it has failed, where what started it can explain it."""

    @property
    def ended(self) -> bool:
        """Whether its process has ended, or cannot go on."""
        return self.state in (TrainerState.SUCCEEDED, TrainerState.FAILED, TrainerState.LOST)


class Launcher(Protocol):
    """Runs one trainer at a time for each run, under the name of the run.

    Every method may be called by another process than the one that launched, for example after a restart. The fence of
    the control plane decides which trainer may write; this only starts and stops processes.
    """

    def launch(self, context: RunContext, start: int) -> None:
        """Start the trainer for the ``start``-th time, counted from 1, after the start before it has ended.

        No effect when this start was made before, also when its reply was lost.

        Raises:
            RunLostError: as of ``TrainerState.LOST``; nothing was started.
            UnavailableError, OSError: it cannot be started now; repeat the call.
        """
        ...

    def poll(self, run_name: str) -> TrainerStatus:
        """Return the status of the newest start."""
        ...

    def read_log(self, run_name: str, offset: int) -> bytes:
        """Return a part of the output of the newest start from byte ``offset`` on; empty when there is no more now.

        Always empty where trainers send their output to the control plane themselves.
        """
        ...

    def stop(self, run_name: str) -> None:
        """Ask the trainer to save a checkpoint and exit; returns at once. Best effort: it may go on."""
        ...

    def kill(self, run_name: str) -> None:
        """End all processes of all starts; returns when they have exited. No error when there are none.

        Raises:
            UnavailableError: a process does not exit.
        """
        ...
