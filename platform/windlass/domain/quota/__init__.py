"""Quotas: the scheduler of the embedded mode, and the predictor of what Kueue does in a cluster.

The rules are those of Kueue 0.19.2 as Windlass configures it: one StrictFIFO ClusterQueue for each project and pool,
one level of cohort, reclaimWithinCohort Any, withinClusterQueue LowerPriority, borrowWithinCohort Never, no fair
sharing, default feature gates. Pools do not influence each other.

Quota. A project may use its nominal quota; in a cohort also what the others leave idle, up to its borrowing limit.
What a lending limit withholds is usable by its owner alone; the rest of all nominal quotas of a cohort is one pot.

Queue. Pending jobs of a project stand by priority (higher first), then by the time first queued, then by what breaks
ties (``Claim.rank``). Only the head is looked at: while it waits, all behind it wait. A preempted job comes back to its
old place. Nothing starts from a stopped queue, and what its project has borrowed cannot be reclaimed.

Cycle. The heads of all queues are judged on the same state: each fits, needs victims, or waits. Then they are served
one after the other: those that stay within nominal quota before those that borrow, then priority, then time queued.
A head that needs victims has their room kept for it; who comes later in the cycle and no longer fits, or wants one
of the same victims, is passed over until the next cycle. ``schedule`` repeats cycles until one changes nothing. What
victims give back is not tied to the job they were stopped for: when it is free, the order above decides, so an older
job of another project can take it.

Victims. Only a job that asks for no more than its project's nominal quota preempts. If its project ends within
nominal, any job of another project of the cohort that is borrowing at that moment can be reclaimed, whatever its
priority, and then jobs of the own project with lower priority; else only the latter. Lower priority goes first, then
the job admitted more recently. Candidates are taken until the job fits, and put back, last taken first, where it
still fits without.

Differences from Kueue, all on purpose:

- A pool's physical capacity, which Kueue does not know, also bounds what is admitted (``capacity`` None switches that
  off). It takes nothing from the rules above; it matters only where nominal quotas add up to more than the pool has.
  There a project can find its own nominal quota physically taken by others who are within theirs, and waits.
- A job larger than the pool, or than the pool's limit per job, or without a quota in the pool, never enters a queue and
  holds nobody up. A job larger than its quota can ever allow stands in its queue and blocks it, as in Kueue.
- GPUs that a stopped job still holds are never given away early. Kueue may admit on them within a cycle.
- Jobs already told to stop count as gone when heads are put in order and when victims are chosen: a head that fits
  without them waits for them and chooses nobody. In Kueue two heads can preempt each other in turn while jobs leave at
  different times (its pull request 13797).
- A job admitted and then chosen as a victim within one call of ``schedule`` has not started; it is simply not admitted.
"""

from windlass.domain.quota.accounts import Account, Waiting, accounts
from windlass.domain.quota.ledger import check_quotas, ledger
from windlass.domain.quota.model import (
    Claim,
    Decisions,
    LedgerRow,
    PoolState,
    Preemption,
    Problem,
    Quota,
    Simulation,
    Snapshot,
)
from windlass.domain.quota.scheduling import schedule
from windlass.domain.quota.simulation import simulate
from windlass.domain.quota.verdicts import NEVER, Change, Code, Verdict

__all__ = [
    "NEVER",
    "Account",
    "Change",
    "Claim",
    "Code",
    "Decisions",
    "LedgerRow",
    "PoolState",
    "Preemption",
    "Problem",
    "Quota",
    "Simulation",
    "Snapshot",
    "Verdict",
    "Waiting",
    "accounts",
    "check_quotas",
    "ledger",
    "schedule",
    "simulate",
]
