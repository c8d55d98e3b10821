"""Each project's account in each pool: nominal, used, borrowed and lent quota, and its pending jobs."""

from dataclasses import dataclass

from windlass.domain.quota.ledger import ledger
from windlass.domain.quota.model import Decisions, LedgerRow, ResourceDemand, Snapshot
from windlass.domain.quota.queue_decisions import QueueDecision
from windlass.domain.quota.scheduling import schedule


@dataclass(frozen=True)
class PendingJob:
    """A pending job with the scheduler's decision; ``decision.position`` is its place in the queue, from 1."""

    demand: ResourceDemand
    decision: QueueDecision


@dataclass(frozen=True)
class Account:
    """One project in one pool, and its pending jobs in queue order; jobs that are in no queue come last."""

    row: LedgerRow
    waiting: tuple[PendingJob, ...] = ()

    @property
    def overcommitted(self) -> int:
        """GPUs in use beyond the current quota; no new job starts until it is 0."""
        return self.row.overcommitted


def accounts(snapshot: Snapshot) -> tuple[Account, ...]:
    """Return all accounts, ordered by pool and project."""
    decisions = schedule(snapshot)
    return tuple(Account(row, _waiting(snapshot, decisions, row)) for row in ledger(snapshot))


def _waiting(snapshot: Snapshot, decisions: Decisions, row: LedgerRow) -> tuple[PendingJob, ...]:
    demands = [each for each in snapshot.demands if (each.pool, each.project) == (row.pool, row.project)]
    pending = [PendingJob(each, decisions.waiting[each.job]) for each in demands if each.job in decisions.waiting]
    return tuple(sorted(pending, key=lambda each: (each.decision.position or len(demands) + 1, each.demand.job)))
