"""Inputs and results of the scheduler: immutable, validated values."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from windlass.domain.jobs import DomainModel, Reason
from windlass.domain.quota.queue_decisions import QueueDecision, Suggestion, Unit


class PoolState(DomainModel):
    """A class of accelerators. ``capacity`` in GPUs; None: unbounded, as in Kueue.

    ``allocatable``: GPUs of the nodes that take pods, if known. It bounds only what the ledger shows as free: Kueue
    admits jobs by quota, and decisions must predict what Kueue does.
    """

    name: str
    capacity: int | None = Field(ge=0)
    allocatable: int | None = Field(default=None, ge=0)
    max_gpus_per_job: int | None = Field(default=None, ge=1)
    unit: Unit = Field(default="GPU", description="unit shown in messages")


class Quota(DomainModel):
    """A project's quota in a pool, in GPUs. A limit of None is unlimited.

    ``stopped``: an admin stopped the queue. Running jobs continue and are not reclaimed; no new job starts.
    """

    project: str
    pool: str
    nominal: int = Field(ge=0)
    borrowing_limit: int | None = Field(default=None, ge=0)
    lending_limit: int | None = Field(default=None, ge=0)
    stopped: bool = False


class ResourceDemand(DomainModel):
    """A job that requests or uses GPUs of one pool.

    ``queued_at`` is when the job was first queued; preemption does not change it. ``admitted_at`` is set while the job
    uses its GPUs. ``terminating`` marks an admitted job that is being preempted or cancelled: it uses its GPUs until
    its processes have exited. ``tiebreak`` orders demands with equal times (default: the job's id): times of a cluster
    have a resolution of one second, and Kueue then orders by uid.
    """

    job: str
    project: str
    pool: str
    gpus: int = Field(ge=1)
    priority: int = 0
    queued_at: AwareDatetime
    admitted_at: AwareDatetime | None = None
    terminating: bool = False
    tiebreak: str = ""

    @property
    def rank(self) -> str:
        """The key that orders demands with equal times."""
        return self.tiebreak or self.job

    @model_validator(mode="after")
    def _terminating_is_admitted(self) -> Self:
        if self.terminating and self.admitted_at is None:
            raise ValueError("only an admitted demand can be terminating")
        return self


class Snapshot(DomainModel):
    """The complete input of a decision. A project without an entry in ``cohorts`` is in no cohort."""

    pools: tuple[PoolState, ...]
    quotas: tuple[Quota, ...] = ()
    cohorts: Mapping[str, str | None] = Field(default_factory=dict)
    demands: tuple[ResourceDemand, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for kind, keys in (
            ("pool", [pool.name for pool in self.pools]),
            ("quota", [(quota.pool, quota.project) for quota in self.quotas]),
            ("job", [demand.job for demand in self.demands]),
        ):
            if len(set(keys)) != len(keys):
                raise ValueError(f"duplicate {kind} in a snapshot")
        return self


class Preemption(DomainModel):
    """``job`` must release its GPUs so that ``by`` can start: its project borrowed them, or its priority is lower."""

    job: str
    by: str
    reason: Literal["reclaim", "priority"]


class Decisions(DomainModel):
    """The actions to take. Every pending job is either in ``admit``, in order of admission, or in ``waiting``."""

    admit: tuple[str, ...]
    preempt: tuple[Preemption, ...]
    waiting: Mapping[str, QueueDecision]


class Simulation(DomainModel):
    """The predicted outcome of submitting a job.

    ``waits`` includes a job that starts once ``would_preempt`` have stopped. Those may be jobs of other projects: show
    members of one project only their number. ``smallest_change`` has alternatives for the user and for an admin. With
    ``never`` they remove the permanent obstacle; with ``waits`` each was simulated and lets the job start now.
    """

    verdict: Literal["starts", "waits", "never"]
    position: int | None = None
    reason: Reason | None = None
    would_preempt: tuple[str, ...] = ()
    smallest_change: tuple[Suggestion, ...] = ()


class LedgerRow(DomainModel):
    """One project's account in one pool, in GPUs.

    ``borrowed`` is the sum of ``borrowed_from`` and ``overcommitted``; ``overcommitted`` is usage that stays admitted
    after quotas were cut below it. ``reclaimable`` is the part of nominal that only preempting borrowers would free.
    ``free`` is the amount that a new job of the project could use now, borrowing included.
    """

    pool: str
    project: str
    nominal: int
    used: int
    borrowed: int
    borrowed_from: Mapping[str, int]
    overcommitted: int
    lent: int
    lent_to: Mapping[str, int]
    reclaimable: int
    free: int
    pending: int


class QuotaProblem(DomainModel):
    """An error or a warning about the quotas of a pool. Kueue rejects a quota with an ``error``."""

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
