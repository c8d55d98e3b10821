"""Why a pending job has not started: stable codes, the facts behind them, and the sentence for people."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from windlass.domain.jobs import Fact, Owner, Reason

Unit = Literal["GPU", "CPU slot"]


class Code(StrEnum):
    """Stable codes of a waiting job's Reason."""

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


NEVER = frozenset(
    {
        Code.EXCEEDS_MAX_QUOTA,
        Code.NO_QUOTA_IN_POOL,
        Code.UNKNOWN_POOL,
        Code.EXCEEDS_POOL_CAPACITY,
        Code.EXCEEDS_JOB_LIMIT,
    }
)
"""Codes of a job that no waiting helps, only a change of the job, the quota or the pool."""


class Change(Fact):
    """One thing to change: ``by`` how many, ``to`` what value."""

    kind: Literal["reduce_gpus", "raise_nominal", "raise_borrowing_limit", "raise_job_limit"]
    by: int
    to: int

    @property
    def sentence(self) -> str:
        """The change as an instruction."""
        match self.kind:
            case "reduce_gpus":
                return f"reduce the job by {self.by} to {self.to}"
            case "raise_nominal":
                return f"raise the project's nominal quota by {self.by} to {self.to}"
            case "raise_borrowing_limit":
                return f"raise the project's borrowing limit by {self.by} to {self.to}"
            case "raise_job_limit":
                return f"raise the pool's limit per job by {self.by} to {self.to}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why one pending job waits, in numbers; ``reason`` says it in words.

    ``position`` counts from 1 in the project's queue for the pool, None for a job that is in no queue. ``free`` is what
    the project could take now. ``limit`` is what the job exceeds or the project has reached. ``ahead`` is the job at
    the head of the queue. ``leaving`` are the jobs that must stop first, possibly of other projects.
    """

    code: Code
    pool: str
    needed: int
    unit: Unit = "GPU"
    free: int = 0
    position: int | None = None
    limit: int | None = None
    ahead: str | None = None
    ahead_never: bool = False
    leaving: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def never(self) -> bool:
        """Whether no waiting helps."""
        return self.code in NEVER

    @property
    def reason(self) -> Reason:
        """The Reason to show. It names no other project's job."""
        owner, message, action = _WORDS[self.code](self)
        if self.changes:
            action = _either([change.sentence for change in self.changes])
        facts: dict[str, Any] = {"pool": self.pool, "needed": self.needed}
        if not self.never and self.code is not Code.QUEUE_STOPPED:
            facts["free"] = self.free
        optional = {"position": self.position, "limit": self.limit, "ahead": self.ahead}
        facts |= {name: value for name, value in optional.items() if value is not None}
        if self.leaving:
            facts["leaving"] = len(self.leaving)
        if self.changes:
            facts["changes"] = [change.model_dump() for change in self.changes]
        return Reason(code=self.code.value, message=message, owner=owner, action=action, facts=facts)


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, 11th, 21st, ..."""
    suffix = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def counted(number: int, noun: str) -> str:
    """Return ``1 GPU``, ``4 GPUs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _either(choices: list[str]) -> str:
    text = ", or ".join(choices)
    return text[:1].upper() + text[1:]


_Words = tuple[Owner, str, str]


def _place(v: Verdict) -> str:
    return f"{ordinal(v.position or 1)} in queue"


def _needs(v: Verdict) -> str:
    return f"needs {counted(v.needed, v.unit)} of pool {v.pool}"


def _are_free(v: Verdict) -> str:
    return "none is free" if v.free == 0 else f"{v.free} {'is' if v.free == 1 else 'are'} free"


def _waiting_for_quota(v: Verdict) -> _Words:
    return Owner.NOBODY, f"{_place(v)}; {_needs(v)}, {_are_free(v)}", "Wait, or ask for less"


def _behind_head(v: Verdict) -> _Words:
    ahead = f"job {v.ahead}" if v.ahead else "another job"
    if v.ahead_never:
        why = f"{ahead} at the head of the queue can never start and holds up the jobs behind it"
        return Owner.YOU, f"{_place(v)}; {why}", f"Cancel {ahead} or make it possible"
    why = f"jobs start in order and {ahead} is at the head of the queue"
    return (
        Owner.NOBODY,
        f"{_place(v)}; {_needs(v)}, {_are_free(v)}, but {why}",
        "Wait, or give the job a higher priority",
    )


def _waiting_for_preempted(v: Verdict) -> _Words:
    return Owner.NOBODY, f"{_place(v)}; {_needs(v)} and waits for {counted(len(v.leaving), 'job')} to stop", ""


def _borrowing_limit(v: Verdict) -> _Words:
    message = f"{_place(v)}; {_needs(v)}, {_are_free(v)}: the project may borrow at most {v.limit}"
    return Owner.ADMIN, message, "Wait, ask for less, or ask an admin to raise the borrowing limit"


def _exceeds_max_quota(v: Verdict) -> _Words:
    return Owner.YOU, f"Can never start: {_needs(v)}, the project's quota allows at most {v.limit}", "Ask for less"


def _no_quota(v: Verdict) -> _Words:
    return Owner.ADMIN, f"Can never start: the project has no quota in pool {v.pool}", "Ask an admin for a quota"


def _unknown_pool(v: Verdict) -> _Words:
    return Owner.YOU, f"Can never start: there is no pool {v.pool}", "Choose a pool that exists"


def _exceeds_capacity(v: Verdict) -> _Words:
    return Owner.YOU, f"Can never start: {_needs(v)}, which has {v.limit}", "Ask for less"


def _exceeds_job_limit(v: Verdict) -> _Words:
    message = f"Can never start: {_needs(v)}, where a job may have at most {v.limit}"
    return Owner.YOU, message, "Ask for less"


def _queue_stopped(v: Verdict) -> _Words:
    message = f"The project's queue in pool {v.pool} is stopped: nothing new starts"
    return Owner.ADMIN, message, "Wait, or ask an admin to open the queue"


_WORDS = {
    Code.WAITING_FOR_QUOTA: _waiting_for_quota,
    Code.BEHIND_HEAD_OF_QUEUE: _behind_head,
    Code.WAITING_FOR_PREEMPTED: _waiting_for_preempted,
    Code.BORROWING_LIMIT_REACHED: _borrowing_limit,
    Code.EXCEEDS_MAX_QUOTA: _exceeds_max_quota,
    Code.NO_QUOTA_IN_POOL: _no_quota,
    Code.UNKNOWN_POOL: _unknown_pool,
    Code.EXCEEDS_POOL_CAPACITY: _exceeds_capacity,
    Code.EXCEEDS_JOB_LIMIT: _exceeds_job_limit,
    Code.QUEUE_STOPPED: _queue_stopped,
}
