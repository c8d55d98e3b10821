"""Why a pending job has not started: stable codes, their numbers and the messages for users."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from windlass.domain.jobs import ActionOwner, DomainModel, Reason

Unit = Literal["GPU", "CPU slot"]


class QuotaCode(StrEnum):
    """Reason codes of a pending job."""

    WAITING_FOR_QUOTA = "waiting_for_quota"
    BEHIND_HEAD_OF_QUEUE = "behind_head_of_queue"
    WAITING_FOR_PREEMPTED = "waiting_for_preempted"
    BORROWING_LIMIT_REACHED = "borrowing_limit_reached"
    EXCEEDS_MAX_QUOTA = "exceeds_max_quota"
    NO_QUOTA_IN_POOL = "no_quota_in_pool"
    UNKNOWN_POOL = "unknown_pool"
    EXCEEDS_POOL_CAPACITY = "exceeds_pool_capacity"
    EXCEEDS_JOB_LIMIT = "exceeds_job_limit"
    QUEUE_STOPPED = "queue_stopped"


PERMANENT_CODES = frozenset(
    {
        QuotaCode.EXCEEDS_MAX_QUOTA,
        QuotaCode.NO_QUOTA_IN_POOL,
        QuotaCode.UNKNOWN_POOL,
        QuotaCode.EXCEEDS_POOL_CAPACITY,
        QuotaCode.EXCEEDS_JOB_LIMIT,
    }
)
"""Codes that waiting cannot resolve: the job, the quota or the pool must change."""


class Suggestion(DomainModel):
    """One change that would help: the difference ``by`` and the new value ``to``, in GPUs."""

    kind: Literal["reduce_gpus", "raise_nominal", "raise_borrowing_limit", "raise_job_limit"]
    by: int
    to: int

    @property
    def text(self) -> str:
        """The suggestion as an instruction."""
        match self.kind:
            case "reduce_gpus":
                return f"reduce the job from {self.to + self.by} to {self.to}"
            case "raise_nominal":
                return f"raise the project's nominal quota from {self.to - self.by} to {self.to}"
            case "raise_borrowing_limit":
                return f"raise the project's borrowing limit from {self.to - self.by} to {self.to}"
            case "raise_job_limit":
                return f"raise the pool's limit per job from {self.to - self.by} to {self.to}"


@dataclass(frozen=True, slots=True)
class QueueDecision:
    """Why one pending job waits, in numbers; ``reason`` renders it as a message. Amounts are in GPUs.

    ``position`` counts from 1 in the project's queue for the pool; None: the job is in no queue. ``free`` is the amount
    that the project could use now. ``limit`` is the limit that the job exceeds or the project has reached. ``ahead`` is
    the job at the head of the queue. ``terminating`` are the jobs that must stop first, possibly of other projects.
    """

    code: QuotaCode
    pool: str
    needed: int
    unit: Unit = "GPU"
    free: int = 0
    position: int | None = None
    limit: int | None = None
    ahead: str | None = None
    head_never_starts: bool = False
    terminating: tuple[str, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def never(self) -> bool:
        """Whether waiting cannot help."""
        return self.code in PERMANENT_CODES

    @property
    def reason(self) -> Reason:
        """The Reason to display. It names no job of another project."""
        action_by, message, action = _FORMATTERS[self.code](self)
        if self.suggestions:
            action = _join_alternatives([suggestion.text for suggestion in self.suggestions])
        context: dict[str, Any] = {"pool": self.pool, "needed": self.needed}
        if not self.never and self.code is not QuotaCode.QUEUE_STOPPED:
            context["free"] = self.free
        optional = {"position": self.position, "limit": self.limit, "ahead": self.ahead}
        context |= {name: value for name, value in optional.items() if value is not None}
        if self.terminating:
            context["terminating"] = len(self.terminating)
        if self.suggestions:
            context["suggestions"] = [suggestion.model_dump() for suggestion in self.suggestions]
        return Reason(code=self.code.value, message=message, action_by=action_by, action=action, context=context)


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, 11th, 21st, ..."""
    suffix = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def counted(number: int, noun: str) -> str:
    """Return ``1 GPU``, ``4 GPUs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _join_alternatives(choices: list[str]) -> str:
    text = ", or ".join(choices)
    return text[:1].upper() + text[1:]


_Text = tuple[ActionOwner, str, str]
"""Who can act, message, action."""


def _at_position(v: QueueDecision, text: str) -> str:
    # Kueue may not have reported the position
    return text if v.position is None else f"{ordinal(v.position)} in queue; {text}"


def _needs(v: QueueDecision) -> str:
    return f"needs {counted(v.needed, v.unit)} of pool {v.pool}"


def _are_free(v: QueueDecision) -> str:
    return "none is free" if v.free == 0 else f"{v.free} {'is' if v.free == 1 else 'are'} free"


def _waiting_for_quota(v: QueueDecision) -> _Text:
    # asking for less helps the first job only, and only if something is free
    action = f"Wait, or ask for {v.free}" if v.position == 1 and 0 < v.free < v.needed else "Wait"
    return ActionOwner.NONE, _at_position(v, f"{_needs(v)}, {_are_free(v)}"), action


def _behind_head(v: QueueDecision) -> _Text:
    ahead = f"job {v.ahead}" if v.ahead else "another job"
    if v.head_never_starts:
        why = f"{ahead} at the head of the queue can never start and blocks the jobs behind it"
        return ActionOwner.USER, _at_position(v, why), f"Cancel {ahead} or change its request"
    why = f"jobs start in order and {ahead} is at the head of the queue"
    return (
        ActionOwner.NONE,
        _at_position(v, f"{_needs(v)}, {_are_free(v)}, but {why}"),
        "Wait, or give the job a higher priority",
    )


def _waiting_for_preempted(v: QueueDecision) -> _Text:
    return (
        ActionOwner.NONE,
        _at_position(v, f"{_needs(v)} and waits for {counted(len(v.terminating), 'job')} to stop"),
        "",
    )


def _borrowing_limit(v: QueueDecision) -> _Text:
    message = f"{_needs(v)}, {_are_free(v)}: the project may borrow at most {v.limit}"
    return (
        ActionOwner.ADMIN,
        _at_position(v, message),
        "Wait, ask for less, or ask an admin to raise the borrowing limit",
    )


def _exceeds_max_quota(v: QueueDecision) -> _Text:
    return (
        ActionOwner.USER,
        f"Can never start: {_needs(v)}, the project's quota allows at most {v.limit}",
        "Ask for less",
    )


def _no_quota(v: QueueDecision) -> _Text:
    return ActionOwner.ADMIN, f"Can never start: the project has no quota in pool {v.pool}", "Ask an admin for a quota"


def _unknown_pool(v: QueueDecision) -> _Text:
    return ActionOwner.USER, f"Can never start: there is no pool {v.pool}", "Choose a pool that exists"


def _exceeds_capacity(v: QueueDecision) -> _Text:
    return ActionOwner.USER, f"Can never start: {_needs(v)}, which has {v.limit}", "Ask for less"


def _exceeds_job_limit(v: QueueDecision) -> _Text:
    message = f"Can never start: {_needs(v)}, where a job may have at most {v.limit}"
    return ActionOwner.USER, message, "Ask for less"


def _queue_stopped(v: QueueDecision) -> _Text:
    message = f"The project's queue in pool {v.pool} is stopped: no new job starts"
    return ActionOwner.ADMIN, message, "Wait, or ask an admin to resume the queue"


_FORMATTERS = {
    QuotaCode.WAITING_FOR_QUOTA: _waiting_for_quota,
    QuotaCode.BEHIND_HEAD_OF_QUEUE: _behind_head,
    QuotaCode.WAITING_FOR_PREEMPTED: _waiting_for_preempted,
    QuotaCode.BORROWING_LIMIT_REACHED: _borrowing_limit,
    QuotaCode.EXCEEDS_MAX_QUOTA: _exceeds_max_quota,
    QuotaCode.NO_QUOTA_IN_POOL: _no_quota,
    QuotaCode.UNKNOWN_POOL: _unknown_pool,
    QuotaCode.EXCEEDS_POOL_CAPACITY: _exceeds_capacity,
    QuotaCode.EXCEEDS_JOB_LIMIT: _exceeds_job_limit,
    QuotaCode.QUEUE_STOPPED: _queue_stopped,
}
