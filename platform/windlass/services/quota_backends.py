"""Owners of the quotas: the database, or the cluster."""

from dataclasses import dataclass
from typing import Protocol

from windlass.domain.cluster_sync import ChangeState, QuotaChange
from windlass.domain.errors import InvalidError
from windlass.domain.projects import StoredQuota
from windlass.domain.quota import Snapshot, check_quotas
from windlass.ports import Clock, ProjectResources, UnitOfWork
from windlass.services.admission import Admission


class QuotaBackend(Protocol):
    """Owner of the quotas: the database (embedded mode) or the cluster."""

    def check(self, change: QuotaChange, after: Snapshot) -> None:
        """Validate a change before anything is written. ``after``: the snapshot with the change.

        Raises:
            InvalidError: the limits contradict the nominal quota or need a cohort.
            ConflictError: another field manager owns the quota in the cluster.
        """
        ...

    def record(self, uow: UnitOfWork, change: QuotaChange) -> QuotaChange:
        """Record the change in the caller's transaction and return it with its new state."""
        ...


@dataclass(frozen=True)
class DatabaseQuotaBackend:
    """Quotas are rows of the database; a change is applied at once."""

    admission: Admission
    clock: Clock

    def check(self, change: QuotaChange, after: Snapshot) -> None:
        """Validate with the rules of ``domain.quota``."""
        for problem in check_quotas(after):
            if problem.severity == "error" and (problem.project, problem.pool) == (change.name, change.pool):
                field = "/lending_limit" if problem.code == "lending_limit_above_nominal" else "/borrowing_limit"
                raise InvalidError.field(field, problem.message, hint="change the limit, or the project's cohort")

    def record(self, uow: UnitOfWork, change: QuotaChange) -> QuotaChange:
        """Write the quota's row and return the applied change."""
        quotas = uow.project(change.project).quotas
        if change.spec is None:
            quotas.get({"pool": change.pool})
            quotas.delete({"pool": change.pool})
        else:
            uow.pools.get({"name": change.pool})
            desired = StoredQuota(project=change.project, pool=change.pool, **change.spec.model_dump())
            existing = quotas.find({"pool": change.pool})
            if existing is None:
                quotas.add(desired)
            else:
                quotas.save(desired.model_copy(update={"version": existing.version}))
            self.check(change, self.admission.snapshot(uow))
        update = {"state": ChangeState.APPLIED, "ended_at": self.clock.now()}
        return change.model_copy(update=update)


@dataclass(frozen=True)
class KubernetesQuotaBackend:
    """Quotas are fields of Project resources: a change is validated by a dry run, stored, and applied by the worker."""

    resources: ProjectResources

    def check(self, change: QuotaChange, after: Snapshot) -> None:  # noqa: ARG002 - interface
        """Validate with a dry run of the API server."""
        self.resources.check(change)

    def record(self, uow: UnitOfWork, change: QuotaChange) -> QuotaChange:
        """Return the change as pending; the worker applies changes in the order of acceptance."""
        uow.pools.get({"name": change.pool})
        return change
