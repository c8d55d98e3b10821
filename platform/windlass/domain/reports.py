"""Reports of a run to the control plane: typed items in numbered batches, written under an attempt number.

A source (``driver``, ``rank0``, a step's name) numbers its batches from 1. The control plane stores the highest
accepted number per (attempt, source) and ignores duplicates, so a spooled batch may be sent twice.

Everything that validates can be stored. A report that cannot is invalid, so that its sender drops it; an error of the
server would be retried forever and block the reports behind it.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from windlass.domain.artifacts import Manifest
from windlass.domain.ids import MAX_INTEGER
from windlass.domain.text import EncodableText, StorableObject, StorableText

ReportTime = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 2, tzinfo=UTC), lt=datetime(9999, 12, 31, tzinfo=UTC))]
"""A time with a time zone; within a day of the limits of ``datetime``, conversions to UTC overflow."""
_MAX_SECONDS = 1e9


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricItem(_Item):
    """One point of a numeric series, e.g. ``train_loss`` at an optimiser step."""

    type: Literal["metric"] = "metric"
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    step: int = Field(ge=0, le=MAX_INTEGER)
    value: FiniteFloat
    time: ReportTime


class LogItem(_Item):
    """Whole lines of text of one source, in order."""

    type: Literal["log"] = "log"
    text: EncodableText = Field(min_length=1, max_length=262_144)
    time: ReportTime


class EventItem(_Item):
    """A typed event, e.g. ``training_started``."""

    type: Literal["event"] = "event"
    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    message: StorableText = Field(max_length=2000)
    context: StorableObject = Field(default_factory=dict)
    time: ReportTime


class CheckpointItem(_Item):
    """A checkpoint that this attempt has published (``windlass.domain.storage_layout``)."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int = Field(ge=0, le=MAX_INTEGER)
    manifest: Manifest
    metrics: dict[StorableText, FiniteFloat] = Field(default_factory=dict)
    time: ReportTime


class CheckpointPrunedItem(_Item):
    """A checkpoint that the trainer will delete once this report is acknowledged: no visible one lacks its files."""

    type: Literal["checkpoint_pruned"] = "checkpoint_pruned"
    attempt: int = Field(ge=1, le=MAX_INTEGER)
    step: int = Field(ge=0, le=MAX_INTEGER)


class PhaseSeconds(_Item):
    """What a trainer has spent its time on since it acquired its attempt, in seconds of its rank 0."""

    training: float = Field(default=0.0, ge=0, le=_MAX_SECONDS)
    """Optimizer steps."""
    data_wait: float = Field(default=0.0, ge=0, le=_MAX_SECONDS)
    """Waiting for batches."""
    loading: float = Field(default=0.0, ge=0, le=_MAX_SECONDS)
    """Start, and loading of model and data."""
    evaluation: float = Field(default=0.0, ge=0, le=_MAX_SECONDS)
    """Evaluations, checkpoints, and writing the artifact."""


class PhasesItem(_Item):
    """The phases of an attempt so far. Each report replaces the one before."""

    type: Literal["phases"] = "phases"
    seconds: PhaseSeconds


class JobWarning(_Item):
    """Something about the data, the training or the result of a job that its user should know; the job goes on."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    """Stable code."""
    message: StorableText = Field(max_length=2000)
    """A sentence."""
    context: StorableObject = Field(default_factory=dict)
    """Values for programs."""


class ResultStatus(StrEnum):
    """Final status of an attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class ResultItem(_Item):
    """Result of an attempt: the artifact that it has published when it succeeded; else a code and a message."""

    type: Literal["result"] = "result"
    outcome: ResultStatus
    code: Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9_]{0,63})?$")] = ""
    message: StorableText = Field(default="", max_length=4000)
    manifest: Manifest | None = None
    evaluation: StorableObject | None = None
    warnings: tuple[JobWarning, ...] = Field(default=(), max_length=100)
    trained_seconds: float = Field(default=0.0, ge=0, le=_MAX_SECONDS)
    phases: PhaseSeconds | None = None
    """All phases of the attempt; None: those of its last ``PhasesItem``."""
    time: ReportTime


ReportItem = Annotated[
    MetricItem | LogItem | EventItem | CheckpointItem | CheckpointPrunedItem | PhasesItem | ResultItem,
    Field(discriminator="type"),
]


class ReportBatch(_Item):
    """One numbered batch of a source; an empty batch is a heartbeat, whose number has no meaning."""

    source: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    sequence: int = Field(ge=0, le=MAX_INTEGER)
    items: tuple[ReportItem, ...] = Field(default=(), max_length=2000)

    @model_validator(mode="after")
    def _is_numbered(self) -> Self:
        if self.items and not self.sequence:
            raise ValueError("a batch with items has a sequence number of at least 1")
        return self


class Command(StrEnum):
    """Command to the trainer: continue, or stop (``preempt``: save a checkpoint first)."""

    CONTINUE = "continue"
    PREEMPT = "preempt"
    CANCEL = "cancel"


class ReportReply(_Item):
    """The acknowledged sequence number and a command to the trainer."""

    acknowledged: int
    command: Command
    reason: str = ""


class AcquireAttemptRequest(_Item):
    """Request of a trainer to start an attempt. ``trainer`` identifies its process (host, pid, random)."""

    trainer: str = Field(min_length=1, max_length=200)


class ResumePoint(_Item):
    """The newest committed checkpoint of the job."""

    attempt: int
    step: int
    manifest: Manifest


class AcquireAttemptReply(_Item):
    """The attempt number to report under, the heartbeat timeout, and the checkpoint to resume from."""

    attempt: int
    heartbeat_timeout_seconds: float
    resume: ResumePoint | None = None
    trained_seconds: float = 0.0
    """Training time of earlier attempts, for ``max_duration_seconds``."""
