"""A fine-tuning job, its runs and attempts, and the table of valid transitions. No I/O."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from windlass.domain.errors import InvalidTransitionError
from windlass.domain.reports import JobWarning, PhaseSeconds, ResultItem
from windlass.domain.specs import JobSpec


class DomainModel(BaseModel):
    """Base of every domain object: immutable; a change creates a new object."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class JobState(StrEnum):
    """The state of a job. Terminal states are final (invariant I5)."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether there is no transition out of this state."""
        return not MOVES[self]


_S = JobState
MOVES: Mapping[JobState, frozenset[JobState]] = {
    _S.QUEUED: frozenset({_S.STARTING, _S.FAILED, _S.CANCELLING}),
    # to QUEUED: preempted, or the run was lost; a new run resumes from the last checkpoint
    # to SUCCEEDED: the run registers the result of an earlier run
    _S.STARTING: frozenset({_S.RUNNING, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLING}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLING}),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""The valid transitions of a job."""

UNFINISHED_STATES = tuple(state for state in JobState if not state.terminal)
"""The states of jobs that wait for GPUs or hold them."""


class ActionOwner(StrEnum):
    """Who can act on a Reason."""

    USER = "user"
    ADMIN = "admin"
    NONE = "none"


class Reason(DomainModel):
    """Why an object waits or failed: for programs (code, context) and for users (message, action)."""

    code: str
    message: str
    action_by: ActionOwner = ActionOwner.NONE
    action: str = ""
    context: dict[str, Any] = Field(default_factory=dict)


class Job(DomainModel):
    """One fine-tuning request of a project. ``run`` and ``attempt`` count from 1; 0 means none yet."""

    id: str
    project: str
    name: str | None = None
    """That of the spec, to find the job by."""
    spec: JobSpec
    state: JobState
    reason: Reason | None = None
    dataset_version: str
    dataset_ref: str
    """Display name of the version, ``name@number``."""
    base_model: str
    world_size: int
    """Training processes. Fixed at submission: a checkpoint continues only with the same number."""
    run: int = 0
    attempt: int = 0
    steps_done: int = 0
    steps_planned: int | None = None
    model_version: str | None = None
    model_number: int | None = None
    decision: Literal["candidate", "rejected"] | None = None
    """Decision of the gates on the registered version."""
    warnings: tuple[JobWarning, ...] = ()
    """About its dataset version, from the start; and about its training and result, from the registration."""
    retry_of: str | None = None
    created_by: str
    created_with: str = ""
    """``Principal.usage_key`` of the request; empty: not known."""
    created_at: datetime
    changed_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cleaned_up_at: datetime | None = None
    """When the data of its runs was removed: run folders, checkpoints, unregistered artifacts."""
    history_deleted_at: datetime | None = None
    """When its events and its log were deleted, because of their age."""
    deploy_done_at: datetime | None = None
    """When the deploy of this job changed its endpoint, or was superseded. It happens at most once."""
    trained_seconds: float = 0.0
    version: int = 1


def move(job: Job, to: JobState, now: datetime, reason: Reason | None = None) -> Job:
    """Return ``job`` in state ``to``; every state change goes through this function.

    A transition to the current state only updates the reason, so repeated events are harmless.

    Raises:
        InvalidTransitionError: ``MOVES`` has no such transition.
    """
    if to is job.state:
        return job if reason is None or reason == job.reason else job.model_copy(update={"reason": reason})
    if to not in MOVES[job.state]:
        raise InvalidTransitionError(f"job {job.id} is {job.state}; it cannot become {to}")
    stamps: dict[str, Any] = {"state": to, "reason": reason, "changed_at": now}
    if to is JobState.QUEUED and job.queued_at is None:  # a requeued job keeps its place in the queue
        stamps["queued_at"] = now
    if to is JobState.RUNNING and job.started_at is None:
        stamps["started_at"] = now
    if to.terminal:
        stamps["finished_at"] = now
    return job.model_copy(update=stamps)


class RunState(StrEnum):
    """The state of one pipeline run."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether the run's processes have exited."""
        return self in {RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED, RunState.LOST}


class Run(DomainModel):
    """One pipeline run of a job. ``stop`` requests that its processes end: ``preempt`` or ``cancel``."""

    id: str
    project: str
    job: str
    number: int
    name: str
    state: RunState
    stop: str | None = None
    stop_at: datetime | None = None
    warm_trainer: str | None = None
    """Name of the warm trainer that trains it; None: its trainer was started for it."""
    reports_pending_since: datetime | None = None
    """Since when its processes have ended and their last reports cannot be stored."""
    steps: dict[str, str] = Field(default_factory=dict)
    created_at: datetime
    ended_at: datetime | None = None
    version: int = 1


class AttemptState(StrEnum):
    """The state of an attempt: live until it reports a result, is stopped, or is lost."""

    LIVE = "live"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


class Attempt(DomainModel):
    """One execution of the trainer within a run. At most one attempt of a job is live (invariant I3)."""

    project: str
    job: str
    number: int
    run: str
    trainer: str
    state: AttemptState
    acquired_at: datetime
    heartbeat_at: datetime
    heartbeats: int = 0
    """Number of reports. The attempt counts as lost when it has not changed for the heartbeat timeout."""
    ended_at: datetime | None = None
    resumed_from_step: int | None = None
    trained_seconds: float = 0.0
    phases: PhaseSeconds | None = None
    """What its trainer has spent its time on; None: it has not reported it."""
    kept_seconds: float = 0.0
    """Seconds of its optimizer steps up to its last committed checkpoint."""
    result: ResultItem | None = None
