"""The run protocol: what the processes of a run and the control plane send each other under ``/internal/v1/runs``.

Reports and attempts, which the services process, are defined in ``windlass.domain.reports``, transfers of files in
``windlass.domain.transfers``.
"""

from typing import Literal

from pydantic import Field

from windlass.domain.ids import Number
from windlass.domain.jobs import JobState
from windlass.domain.models import Decision
from windlass.domain.reports import Command, LogItem, ResultItem
from windlass.domain.text import StorableText
from windlass.domain.warm_trainers import WARM_TRAINER_PATTERN
from windlass.wire.base import In, Out

RUNS_PATH = "/internal/v1/runs"
"""Path of all routes: ``<RUNS_PATH>/<run>/...``, authenticated with the run's token."""
WARM_TRAINERS_PATH = "/internal/v1/warm-trainers"
"""Path of ``<WARM_TRAINERS_PATH>/<project>/<name>/run``, where a warm trainer asks for its run, with its own token."""
TRANSFERS_PATH = "/internal/v1/transfers"
"""Path of the transfer routes for a transfer token; those of a run are below ``<RUNS_PATH>/<run>/transfers``."""
MAX_LOG_ITEMS = 200
"""Log items of one chunk of a step's output."""
PRODUCER_ID_BYTES = 8
"""Length of the random id of a process that sends the log of a step, in hexadecimal digits twice as many."""

StepState = Literal["running", "succeeded", "failed"]


class RunStatusOut(Out):
    """State of the run's job, the command for its processes, and its newest attempt with the reported result.

    ``checkpoint`` is the step of the job's newest checkpoint, ``lost_attempts`` the number of attempts of the run that
    were lost since then. ``attempt_seconds`` is the time since a live attempt was acquired.
    """

    job: str
    state: JobState
    command: Command
    attempt: Number | None = None
    result: ResultItem | None = None
    checkpoint: Number | None = None
    lost_attempts: int = 0
    attempt_seconds: float | None = None

    @property
    def should_continue(self) -> bool:
        """Whether no stop was requested and the job has not ended."""
        return self.command is Command.CONTINUE and not self.state.terminal


class WarmTrainerIn(In):
    """The warm trainer that a run has claimed."""

    name: str = Field(pattern=WARM_TRAINER_PATTERN)


class StepStatusIn(In):
    """Status of a pipeline step."""

    state: StepState
    message: StorableText = Field(default="", max_length=4000)


class StepLogIn(In):
    """A numbered chunk of a step's output; a chunk that is sent again is ignored.

    ``producer`` is a random id of the process that numbers its chunks from 1, since a run may have several in a row.
    """

    producer: str = Field(pattern=rf"^[0-9a-f]{{{2 * PRODUCER_ID_BYTES}}}$")
    sequence: Number
    items: list[LogItem] = Field(min_length=1, max_length=MAX_LOG_ITEMS)


class RegisteredModelOut(Out):
    """The model version of the run, new or already registered, and the decision of its evaluation gates."""

    model_version: str
    model: str
    number: Number
    decision: Decision
    reason: str = ""


class DeployedEndpointOut(Out):
    """The endpoint that was created or updated."""

    endpoint: str
