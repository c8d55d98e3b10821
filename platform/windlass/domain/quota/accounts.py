"""Each project's account in each pool: what it has, holds, borrows and lends, and who of it waits."""

from dataclasses import dataclass

from windlass.domain.quota.ledger import ledger
from windlass.domain.quota.model import Claim, Decisions, LedgerRow, Snapshot
from windlass.domain.quota.scheduling import schedule
from windlass.domain.quota.verdicts import Verdict


@dataclass(frozen=True)
class Waiting:
    """A job that waits, with what the scheduler foresees of it; ``verdict.position`` is its place from 1."""

    claim: Claim
    verdict: Verdict


@dataclass(frozen=True)
class Account:
    """One project in one pool, and its waiting jobs in the order of the queue; those in no queue come last."""

    row: LedgerRow
    waiting: tuple[Waiting, ...] = ()

    @property
    def overcommitted(self) -> int:
        """GPUs held beyond what the quota allows now; nothing new starts until it is 0."""
        return self.row.unbacked


def accounts(snapshot: Snapshot) -> tuple[Account, ...]:
    """Return every account, by pool and project."""
    decisions = schedule(snapshot)
    return tuple(Account(row, _waiting(snapshot, decisions, row)) for row in ledger(snapshot))


def _waiting(snapshot: Snapshot, decisions: Decisions, row: LedgerRow) -> tuple[Waiting, ...]:
    inside = [each for each in snapshot.claims if (each.pool, each.project) == (row.pool, row.project)]
    found = [Waiting(each, decisions.waiting[each.job]) for each in inside if each.job in decisions.waiting]
    return tuple(sorted(found, key=lambda each: (each.verdict.position or len(inside) + 1, each.claim.job)))
