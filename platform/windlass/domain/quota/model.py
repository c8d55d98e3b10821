"""What the scheduler reads and answers: immutable values, checked when they are made."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from windlass.domain.jobs import Fact, Reason
from windlass.domain.quota.verdicts import Change, Unit, Verdict


class PoolState(Fact):
    """A class of accelerators. ``capacity`` None: not bounded here, as Kueue sees a pool."""

    name: str
    capacity: int | None = Field(ge=0)
    max_gpus_per_job: int | None = Field(default=None, ge=1)
    unit: Unit = Field(default="GPU", description="what people call one of it in sentences")


class Quota(Fact):
    """What a project may use of a pool. None: no limit, and all of it is lent.

    ``stopped``: an admin stopped the queue. What runs goes on and cannot be reclaimed; nothing new starts.
    """

    project: str
    pool: str
    nominal: int = Field(ge=0)
    borrowing_limit: int | None = Field(default=None, ge=0)
    lending_limit: int | None = Field(default=None, ge=0)
    stopped: bool = False


class Claim(Fact):
    """A job that wants or holds GPUs of one pool.

    ``queued_at`` is when the job was first queued: it does not change when the job is preempted and queued again.
    ``admitted_at`` is set while the job holds its GPUs. ``leaving`` marks a holder that was told to stop, by
    preemption or by its user: it holds until its processes are gone. ``tiebreak`` orders claims of one moment, without
    it the job's id does: a cluster tells times in whole seconds, and Kueue orders what is equal by uid.
    """

    job: str
    project: str
    pool: str
    gpus: int = Field(ge=1)
    priority: int = 0
    queued_at: AwareDatetime
    admitted_at: AwareDatetime | None = None
    leaving: bool = False
    tiebreak: str = ""

    @property
    def rank(self) -> str:
        """What orders the claim among others of the same moment."""
        return self.tiebreak or self.job

    @model_validator(mode="after")
    def _leaving_holds(self) -> Self:
        if self.leaving and self.admitted_at is None:
            raise ValueError("only an admitted claim can be leaving")
        return self


class Snapshot(Fact):
    """Everything a decision depends on. A project without an entry in ``cohorts`` is in none."""

    pools: tuple[PoolState, ...]
    quotas: tuple[Quota, ...] = ()
    cohorts: Mapping[str, str | None] = Field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for what, keys in (
            ("pool", [pool.name for pool in self.pools]),
            ("quota", [(quota.pool, quota.project) for quota in self.quotas]),
            ("job", [claim.job for claim in self.claims]),
        ):
            if len(set(keys)) != len(keys):
                raise ValueError(f"the same {what} stands twice in a snapshot")
        return self


class Preemption(Fact):
    """``job`` must give its GPUs back so that ``by`` can start: its project borrowed them, or it ranks lower."""

    job: str
    by: str
    reason: Literal["reclaim", "priority"]


class Decisions(Fact):
    """What to do now. Every pending job is either in ``admit``, in its order of admission, or in ``waiting``."""

    admit: tuple[str, ...]
    preempt: tuple[Preemption, ...]
    waiting: Mapping[str, Verdict]


class Simulation(Fact):
    """What would become of a job.

    ``waits`` includes a job that starts as soon as ``would_preempt`` have stopped. Those may be jobs of other
    projects: who shows this to a member of one project shows their number.
    ``smallest_change`` has the alternatives of the job's owner and of an admin. After ``never`` they make it possible
    that the job starts, after ``waits`` each was tried and lets it start now.
    """

    verdict: Literal["starts", "waits", "never"]
    position: int | None = None
    reason: Reason | None = None
    would_preempt: tuple[str, ...] = ()
    smallest_change: tuple[Change, ...] = ()


class LedgerRow(Fact):
    """One project's account in one pool, in GPUs.

    ``borrowed`` is the sum of ``borrowed_from`` and ``unbacked``; ``unbacked`` is what stays admitted after quotas
    were cut below it. ``reclaimable`` is the part of nominal that only preempting borrowers would free.
    ``free`` is what a job of the project could take now, borrowing included.
    """

    pool: str
    project: str
    nominal: int
    used: int
    borrowed: int
    borrowed_from: Mapping[str, int]
    unbacked: int
    lent: int
    lent_to: Mapping[str, int]
    reclaimable: int
    free: int
    pending: int


class Problem(Fact):
    """Something wrong, or worth a look, in the quotas of a pool. Kueue refuses what is an ``error``."""

    code: Literal[
        "unknown_pool",
        "lending_limit_above_nominal",
        "limits_without_cohort",
        "overcommitted",
        "unassigned_capacity",
    ]
    severity: Literal["error", "warning"]
    message: str
    pool: str
    project: str | None = None
