"""Pools and quotas: in embedded mode the rows are the truth; the ledger is computed from one snapshot."""

from dataclasses import dataclass
from typing import Any

from windlass.domain.errors import ConflictError, InvalidError
from windlass.domain.jobs import JobState
from windlass.domain.projects import Pool, Project, StoredQuota
from windlass.domain.quota import LedgerRow, check_quotas, ledger
from windlass.domain.quota.model import Snapshot
from windlass.ports import UnitOfWork
from windlass.services.admission import take_snapshot
from windlass.services.backing import ProjectUseCases, UseCases
from windlass.services.projects import check_version


@dataclass(frozen=True)
class Pools(UseCases):
    """Create, list, change and delete pools; writing is for admins."""

    def create(self, pool: Pool) -> Pool:
        """Store a new pool.

        Raises:
            ConflictError: the name is taken.
        """
        with self.backing.database.write() as work:
            work.pools.add(pool)
            self.audit(work, "pool.create", pool.id)
        return pool

    def page(self, limit: int, after: str | None) -> list[tuple[Pool, int]]:
        """List pools, each with the GPUs in use now."""
        with self.backing.database.read() as work:
            used = in_use(take_snapshot(work))
            return [(pool, used.get(pool.name, 0)) for pool in work.pools.page(limit, after)]

    def get(self, name: str) -> tuple[Pool, int]:
        """Return a pool with the GPUs in use now."""
        with self.backing.database.read() as work:
            return work.pools.get(name=name), in_use(take_snapshot(work)).get(name, 0)

    def update(self, name: str, version: int, changes: dict[str, Any]) -> tuple[Pool, int]:
        """Change a pool. Jobs that hold GPUs beyond a smaller capacity keep them until they end."""
        with self.backing.database.write() as work:
            pool = work.pools.get(name=name)
            check_version("pool", pool.version, version)
            saved = work.pools.save(pool.model_copy(update=changes))
            self.audit(work, "pool.update", pool.id)
            return saved, in_use(take_snapshot(work)).get(name, 0)

    def delete(self, name: str, version: int) -> None:
        """Remove a pool.

        Raises:
            ConflictError: quotas or live jobs name it.
        """
        with self.backing.database.write() as work:
            pool = work.pools.get(name=name)
            check_version("pool", pool.version, version)
            quotas = work.everywhere().quotas.all(pool=name)
            waiting = work.everywhere().jobs.all(state=[state for state in JobState if not state.terminal])
            jobs = [job for job in waiting if job.spec.resources.pool == name]
            if quotas or jobs:
                raise ConflictError(
                    f"{len(quotas)} quotas and {len(jobs)} live jobs name pool {name}",
                    hint="remove the quotas, and end or cancel the jobs, first",
                )
            work.pools.delete(id=pool.id)
            self.audit(work, "pool.delete", pool.id)


@dataclass(frozen=True)
class Ledger(UseCases):
    """What every project has, uses, borrows and lends."""

    def all(self) -> list[tuple[LedgerRow, StoredQuota, str | None]]:
        """Return every line with its stored quota and cohort (admins)."""
        with self.backing.database.read() as work:
            return _lines(work, None)


@dataclass(frozen=True)
class Quotas(ProjectUseCases):
    """The quotas of one project."""

    def all(self) -> list[tuple[LedgerRow, StoredQuota, str | None]]:
        """Return the project's lines."""
        with self.backing.database.read() as work:
            return _lines(work, self.project)

    def put(self, quota: StoredQuota) -> tuple[LedgerRow, StoredQuota, str | None]:
        """Set the project's share of a pool.

        Raises:
            NotFoundError: no such pool.
            InvalidError: the limits contradict the nominal quota or need a cohort.
        """
        with self.backing.database.write() as work:
            work.pools.get(name=quota.pool)
            quotas = work.of(self.project).quotas
            known = quotas.find(pool=quota.pool)
            if known is None:
                quotas.add(quota)
            else:
                quotas.save(quota.model_copy(update={"version": known.version}))
            name = work.projects.get(id=self.project).name
            for problem in check_quotas(take_snapshot(work)):
                if problem.severity == "error" and problem.project == name and problem.pool == quota.pool:
                    field = "/lending_limit" if problem.code == "lending_limit_above_nominal" else "/borrowing_limit"
                    raise InvalidError.field(field, problem.message, hint="change the limit, or the project's cohort")
            self.audit(work, "quota.put", quota.pool, self.project)
            return next(line for line in _lines(work, self.project) if line[1].pool == quota.pool)

    def delete(self, pool: str) -> None:
        """Take the project's share of a pool away; what it holds there stays until its jobs end."""
        with self.backing.database.write() as work:
            work.of(self.project).quotas.get(pool=pool)
            work.of(self.project).quotas.delete(pool=pool)
            self.audit(work, "quota.delete", pool, self.project)


def in_use(snapshot: Snapshot) -> dict[str, int]:
    """Return the GPUs that jobs hold, by pool."""
    used: dict[str, int] = {}
    for claim in snapshot.claims:
        if claim.admitted_at is not None:
            used[claim.pool] = used.get(claim.pool, 0) + claim.gpus
    return used


def _lines(work: UnitOfWork, project: str | None) -> list[tuple[LedgerRow, StoredQuota, str | None]]:
    projects: dict[str, Project] = {p.name: p for p in work.projects.all()}
    inside = work.everywhere() if project is None else work.of(project)
    stored = {(quota.project, quota.pool): quota for quota in inside.quotas.all()}
    lines = []
    for row in ledger(take_snapshot(work)):
        owner = projects[row.project]
        quota = stored.get((owner.id, row.pool))
        if quota is not None:
            lines.append((row, quota, owner.cohort))
    return lines
