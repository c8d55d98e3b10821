"""The lease of the cluster sync: the row ``cluster_sync_status``, acquired and renewed by compare-and-swap.

Every transaction of the sync updates the row under its version, so the transaction of a replaced leader fails and
writes nothing.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from windlass.domain.cluster_sync import CLUSTER_SYNC_NAME, ClusterSyncStatus
from windlass.domain.errors import ConflictError, NotFoundError, PreconditionFailedError, TransactionConflictError
from windlass.kit.boot_time import boot_seconds
from windlass.kit.lease import LeaseTimer
from windlass.ports import WorkerDatabase, WorkerUnitOfWork
from windlass.ports.leadership import NotLeaderError

_log = logging.getLogger(__name__)
_RENEWALS = 3
"""How often an idle leader renews within the duration of the lease."""


class RowLease:
    """Implements ``windlass.ports.leadership.LeaderElector`` with a row of the database."""

    def __init__(
        self, database: WorkerDatabase, holder: str, lease: timedelta, clock: Callable[[], float] = boot_seconds
    ) -> None:
        self._database, self.holder = database, holder
        self._timer = LeaseTimer(lease.total_seconds(), clock)
        self._row: ClusterSyncStatus | None = None

    @property
    def held(self) -> bool:
        """Whether this replica acquired the lease and knows of no other leader; it may have to renew before writing."""
        return self._row is not None

    @property
    def is_leader(self) -> bool:
        """Whether this replica may write."""
        return self._row is not None and self._timer.valid

    @property
    def renewal_due(self) -> bool:
        """Whether an idle leader should renew the lease."""
        return self._timer.renewal_due(_RENEWALS)

    def ensure_leader(self) -> None:
        """Check leadership; the guard of every write to the cluster.

        Raises:
            NotLeaderError: this replica is not the leader.
        """
        if not self.is_leader:
            raise NotLeaderError(f"{self.holder} does not hold the lease of the cluster sync")

    def try_acquire_or_renew(self) -> bool:
        """Acquire a free or expired lease, or renew the own one; False if another replica holds it."""
        current = self._row
        if current is None:
            with self._database.read() as uow:
                current = uow.cluster_sync_status.find({"name": CLUSTER_SYNC_NAME})
            if current is not None and current.holder != self.holder and not self._timer.has_expired(current.version):
                return False
        return self._swap(current)

    def release(self) -> None:
        """Release the lease, so that another replica can acquire it at once."""
        if self._row is not None:
            with self._database.write() as uow:
                uow.cluster_sync_status.delete(
                    {"name": self._row.name, "holder": self.holder, "version": self._row.version}
                )
            self.give_up()

    def give_up(self) -> None:
        """Forget the lease: another replica is the leader."""
        self._row = None
        self._timer.lost()

    @contextmanager
    def fenced(self, **fields: Any) -> Iterator[WorkerUnitOfWork]:
        """Open a transaction that fails if another replica became the leader, and renews the lease.

        Raises:
            PreconditionFailedError: another replica is the leader.
        """
        if self._row is None:
            raise PreconditionFailedError("this worker does not hold the lease of the cluster sync")
        started = self._timer.now()
        with self._database.write() as uow:
            row = uow.cluster_sync_status.save(self._row.model_copy(update=fields))
            yield uow
        self._row = row
        self._timer.renewed(started)

    def _swap(self, current: ClusterSyncStatus | None) -> bool:
        started = self._timer.now()
        try:
            with self._database.write() as uow:
                if current is None:
                    row = ClusterSyncStatus(holder=self.holder)
                    uow.cluster_sync_status.add(row)
                else:
                    row = uow.cluster_sync_status.save(current.model_copy(update={"holder": self.holder}))
        except (ConflictError, NotFoundError, PreconditionFailedError, TransactionConflictError):
            self.give_up()
            return False
        if self._row is None:
            _log.info("became the leader of the cluster sync", extra={"holder": self.holder})
        self._row = row
        self._timer.renewed(started)
        return True
