"""What a run tells the control plane: typed items in numbered batches, written under an attempt number.

A source (``driver``, ``rank0``, a step's name) numbers its batches from 1; the control plane keeps the highest
number it has taken per (attempt, source) and ignores one that it has seen, so that a spooled batch may be sent twice.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from windlass.domain.artifacts import Manifest
from windlass.domain.ids import MAX_INTEGER, Number


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricItem(_Item):
    """One point of a numeric series, e.g. ``train_loss`` at an optimiser step."""

    type: Literal["metric"] = "metric"
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    step: int = Field(ge=0, le=MAX_INTEGER)
    value: float
    time: datetime


class LogItem(_Item):
    """Whole lines of text of one source, in order."""

    type: Literal["log"] = "log"
    text: str = Field(max_length=262_144)
    time: datetime


class EventItem(_Item):
    """A typed fact for people and programs, e.g. ``training_started``."""

    type: Literal["event"] = "event"
    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    message: str = Field(max_length=2000)
    facts: dict[str, Any] = Field(default_factory=dict)
    time: datetime


class CheckpointItem(_Item):
    """A checkpoint whose files and commit marker are in place at ``prefix``."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int = Field(ge=0, le=MAX_INTEGER)
    prefix: str
    manifest: Manifest
    metrics: dict[str, float] = Field(default_factory=dict)
    time: datetime


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class ResultItem(_Item):
    """The end of an attempt. ``succeeded`` carries the artifact; ``failed`` a code and a sentence."""

    type: Literal["result"] = "result"
    outcome: Outcome
    code: str = ""
    message: str = Field(default="", max_length=4000)
    artifact_prefix: str | None = None
    manifest: Manifest | None = None
    evaluation: dict[str, Any] | None = None
    trained_seconds: float = Field(default=0.0, ge=0)
    time: datetime


ReportItem = Annotated[MetricItem | LogItem | EventItem | CheckpointItem | ResultItem, Field(discriminator="type")]


class ReportBatch(_Item):
    """One numbered batch of a source; an empty one is a heartbeat."""

    source: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    sequence: Number
    items: tuple[ReportItem, ...] = Field(default=(), max_length=2000)


class Command(StrEnum):
    """What the control plane answers: go on, or stop (checkpoint first when ``preempt``)."""

    CONTINUE = "continue"
    PREEMPT = "preempt"
    CANCEL = "cancel"


class ReportReply(_Item):
    """Acknowledges the sequence number and commands the trainer."""

    acknowledged: int
    command: Command
    reason: str = ""


class ClaimRequest(_Item):
    """A trainer asks for the fence. ``trainer`` names this process uniquely (host, pid, random)."""

    trainer: str = Field(min_length=1, max_length=200)


class ResumePoint(_Item):
    """The newest committed checkpoint of the job."""

    step: int
    prefix: str
    manifest: Manifest


class ClaimReply(_Item):
    """The fence is won: the attempt number to write under, the lease, and where to resume."""

    attempt: int
    lease_seconds: float
    resume: ResumePoint | None = None
    trained_seconds: float = 0.0
    """Training time of the earlier attempts, to hold ``max_duration_seconds``."""
