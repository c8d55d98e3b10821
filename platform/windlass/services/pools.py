"""Pools of accelerators."""

from dataclasses import dataclass
from typing import Any

from windlass.domain.errors import ConflictError
from windlass.domain.jobs import JobState
from windlass.domain.projects import Pool
from windlass.ports import UnitOfWork
from windlass.services.backing import UseCases
from windlass.services.projects import check_version
from windlass.services.quotas import in_use, promised, take


@dataclass(frozen=True)
class PoolView:
    """A pool, with the GPUs that jobs hold of it and that projects were promised of it."""

    pool: Pool
    in_use: int = 0
    nominal: int = 0


@dataclass(frozen=True)
class Pools(UseCases):
    """Create, list, change and delete pools; writing is for admins."""

    def create(self, pool: Pool) -> PoolView:
        """Store a new pool.

        Raises:
            ConflictError: the name is taken.
        """
        with self.backing.database.write() as work:
            work.pools.add(pool)
            self.audit(work, "pool.create", pool.id)
        return PoolView(pool)

    def page(self, limit: int, after: str | None) -> list[PoolView]:
        """List pools."""
        with self.backing.database.read() as work:
            return self._views(work, work.pools.page(limit, after))

    def get(self, name: str) -> PoolView:
        """Return a pool."""
        with self.backing.database.read() as work:
            return self._views(work, [work.pools.get(name=name)])[0]

    def update(self, name: str, version: int, changes: dict[str, Any]) -> PoolView:
        """Change a pool. Jobs that hold GPUs beyond a smaller capacity keep them until they end."""
        with self.backing.database.write() as work:
            pool = work.pools.get(name=name)
            check_version("pool", pool.version, version)
            saved = work.pools.save(pool.model_copy(update=changes))
            self.audit(work, "pool.update", pool.id)
            return self._views(work, [saved])[0]

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

    def _views(self, work: UnitOfWork, pools: list[Pool]) -> list[PoolView]:
        snapshot = take(self.backing, work)
        used, nominal = in_use(snapshot), promised(snapshot)
        return [PoolView(pool, used.get(pool.name, 0), nominal.get(pool.name, 0)) for pool in pools]
