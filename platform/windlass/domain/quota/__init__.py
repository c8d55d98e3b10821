"""Quotas: the scheduler of the embedded mode, and the predictor of Kueue's decisions in a cluster.

The rules are those of Kueue 0.19.2 as Windlass configures it: one StrictFIFO ClusterQueue for each project and pool,
one level of cohort, reclaimWithinCohort Any, withinClusterQueue LowerPriority, borrowWithinCohort Never, no fair
sharing, default feature gates. Pools do not influence each other.

Quota. A project may use its nominal quota; in a cohort also the idle quota of others, up to its borrowing limit.
Quota above a lending limit is usable only by its own project; the rest of all nominal quotas of a cohort is shared.

Queue. Pending jobs of a project are ordered by priority (higher first), then by the time first queued, then by
``ResourceDemand.rank``. Only the head is considered: while it waits, all jobs behind it wait. A preempted job returns
to its previous place. No job starts from a stopped queue, and quota that its project has borrowed is not reclaimed.

Cycle. All queue heads are evaluated on the same state: each fits, needs preemption, or waits. They are then processed
in this order: heads within nominal quota before heads that borrow, then priority, then time queued. GPUs of victims
are reserved for the head that needs them; a later head of the cycle that no longer fits, or that has a victim in
common, is skipped until the next cycle. ``schedule`` repeats cycles until one changes nothing. Released GPUs are not
tied to the job that caused the preemption: the order above decides, so an older job of another project can get them.

Preemption. Only a job that requests no more than its project's nominal quota preempts. If its project ends within
nominal, any job of another project of the cohort that is borrowing can be reclaimed, whatever its priority, and then
jobs of the same project with lower priority; otherwise only the latter. Lower priority is preempted first, then the
job admitted more recently. Candidates are removed until the job fits, then restored in reverse order while it fits.

Deliberate differences from Kueue:

- A pool's physical capacity, unknown to Kueue, also bounds admission (``capacity`` None: no bound). It matters only
  where nominal quotas add up to more than the pool has: a project can then wait although it is within its nominal
  quota, because others within theirs occupy the pool.
- A job larger than the pool, or than the pool's limit per job, or without a quota in the pool, does not enter a queue
  and blocks no other job. A job larger than its quota can ever allow stays in its queue and blocks it, as in Kueue.
- GPUs of a terminating job are never reused before it has stopped. Kueue may admit on them within a cycle.
- Terminating jobs count as gone when heads are ordered and victims are chosen: a head that fits without them waits for
  them and preempts nothing. In Kueue two heads can preempt each other repeatedly while jobs stop at different times
  (its pull request 13797).
- A job that is admitted and then chosen as a victim within one call of ``schedule`` has not started: its admission is
  dropped.
"""

from windlass.domain.quota.accounts import Account, PendingJob, accounts
from windlass.domain.quota.ledger import check_quotas, ledger
from windlass.domain.quota.model import (
    Decisions,
    LedgerRow,
    PoolState,
    Preemption,
    Quota,
    QuotaProblem,
    ResourceDemand,
    Simulation,
    Snapshot,
)
from windlass.domain.quota.queue_decisions import PERMANENT_CODES, QueueDecision, QuotaCode, Suggestion
from windlass.domain.quota.queue_index import QueueIndex
from windlass.domain.quota.scheduling import schedule
from windlass.domain.quota.simulation import simulate

__all__ = [
    "PERMANENT_CODES",
    "Account",
    "Decisions",
    "LedgerRow",
    "PendingJob",
    "PoolState",
    "Preemption",
    "QueueDecision",
    "QueueIndex",
    "Quota",
    "QuotaCode",
    "QuotaProblem",
    "ResourceDemand",
    "Simulation",
    "Snapshot",
    "Suggestion",
    "accounts",
    "check_quotas",
    "ledger",
    "schedule",
    "simulate",
]
