"""A fine-tuning job, its runs and attempts, and the one table of legal moves: pure, no I/O."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from windlass.domain.errors import IllegalMoveError
from windlass.domain.reports import ResultItem
from windlass.domain.specs import JobSpec


class Fact(BaseModel):
    """Base of every stored domain object: immutable; a change makes a new one."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobState(StrEnum):
    """Where a job stands. Terminal states are final (invariant I5)."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether no move leads out."""
        return not MOVES[self]


_S = JobState
MOVES: Mapping[JobState, frozenset[JobState]] = {
    _S.ACCEPTED: frozenset({_S.QUEUED, _S.FAILED, _S.CANCELLING}),
    _S.QUEUED: frozenset({_S.STARTING, _S.FAILED, _S.CANCELLING}),
    # back to QUEUED: preempted, or the run was lost and a new one will resume from the last checkpoint
    _S.STARTING: frozenset({_S.RUNNING, _S.QUEUED, _S.FAILED, _S.CANCELLING}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLING}),
    # registration that wins the race against a cancel stands: the version exists
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.SUCCEEDED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""The only table of legal moves."""


class Owner(StrEnum):
    """Who can act on a Reason."""

    YOU = "you"
    ADMIN = "admin"
    NOBODY = "nobody"


class Reason(Fact):
    """Why a job waits or failed, in one object: for a program (code, facts) and for a person (message, action)."""

    code: str
    message: str
    owner: Owner = Owner.NOBODY
    action: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)


class Job(Fact):
    """One fine-tuning request of a project. ``run`` and ``attempt`` count from 1; 0 means none yet."""

    id: str
    project: str
    spec: JobSpec
    state: JobState
    reason: Reason | None = None
    dataset_version: str
    dataset_ref: str
    """The version as people name it, ``name@number``."""
    base_model: str
    run: int = 0
    attempt: int = 0
    steps_done: int = 0
    steps_planned: int | None = None
    model_version: str | None = None
    model_number: int | None = None
    retry_of: str | None = None
    created_by: str
    created_at: datetime
    changed_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    tidied_at: datetime | None = None
    """When what only its runs needed was removed: their folders, its checkpoints, artifacts that nobody registered."""
    trained_seconds: float = 0.0
    version: int = 1


def move(job: Job, to: JobState, now: datetime, reason: Reason | None = None) -> Job:
    """Return ``job`` in state ``to``; the one place where a job changes state.

    Moving to the state it is in is a no-op (but for a new reason), so that a repeated event does no harm.

    Raises:
        IllegalMoveError: the table has no such move.
    """
    if to is job.state:
        return job if reason is None or reason == job.reason else job.model_copy(update={"reason": reason})
    if to not in MOVES[job.state]:
        raise IllegalMoveError(f"job {job.id} is {job.state}; it cannot become {to}")
    stamps: dict[str, Any] = {"state": to, "reason": reason, "changed_at": now}
    if to is JobState.QUEUED and job.queued_at is None:  # a requeued job keeps its place
        stamps["queued_at"] = now
    if to is JobState.RUNNING and job.started_at is None:
        stamps["started_at"] = now
    if to.terminal:
        stamps["finished_at"] = now
    return job.model_copy(update=stamps)


class RunState(StrEnum):
    """Where one pipeline run stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether the run's processes are gone."""
        return self in {RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED, RunState.LOST}


class Run(Fact):
    """One pipeline run of a job. ``stop`` is the wish that its processes end: ``preempt`` or ``cancel``."""

    id: str
    project: str
    job: str
    number: int
    name: str
    state: RunState
    stop: str | None = None
    stop_at: datetime | None = None
    steps: dict[str, str] = Field(default_factory=dict)
    created_at: datetime
    ended_at: datetime | None = None
    version: int = 1


class AttemptState(StrEnum):
    """One life of a trainer: live until it reports a result, is stopped or its loss is observed."""

    LIVE = "live"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


class Attempt(Fact):
    """One life of a trainer inside a run. At most one attempt of a job is live (invariant I3)."""

    project: str
    job: str
    number: int
    run: str
    trainer: str
    state: AttemptState
    claimed_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None = None
    resumed_from_step: int | None = None
    trained_seconds: float = 0.0
    result: ResultItem | None = None
