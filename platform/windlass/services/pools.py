"""Pools of accelerators."""

from dataclasses import dataclass
from typing import Any

from windlass.domain.capabilities import Capability
from windlass.domain.errors import ConflictError
from windlass.domain.projects import Pool
from windlass.domain.records import Deletion
from windlass.kit.numbers import count
from windlass.ports import ReadUnitOfWork
from windlass.services.base import BaseService
from windlass.services.projects import check_version
from windlass.services.quotas import nominal_by_pool, used_by_pool


@dataclass(frozen=True)
class PoolView:
    """A pool with its admitted GPUs and the sum of its nominal quotas."""

    pool: Pool
    in_use: int = 0
    nominal: int = 0


@dataclass(frozen=True)
class Pools(BaseService):
    """Create, list, change and delete pools; writing is for admins."""

    def create(self, pool: Pool) -> PoolView:
        """Store a new pool.

        Raises:
            ConflictError: the name is taken.
        """
        self.deps.require(Capability.POOL_WRITES)
        with self.deps.database.write() as uow:
            uow.platform()
            uow.pools.add(pool)
            self.audit(uow, "pool.create", pool.id, pool.name, after=pool)
        return PoolView(pool)

    def page(self, limit: int, after: str | None) -> list[PoolView]:
        """List pools."""
        with self.deps.database.read() as uow:
            return self._views(uow, uow.pools.page(limit, after))

    def get(self, name: str) -> PoolView:
        """Return a pool."""
        with self.deps.database.read() as uow:
            return self._views(uow, [uow.pools.get({"name": name})])[0]

    def update(self, name: str, version: int, changes: dict[str, Any]) -> PoolView:
        """Change a pool. Admitted jobs keep their GPUs when the capacity shrinks below them."""
        self.deps.require(Capability.POOL_WRITES)
        with self.deps.database.write() as uow:
            uow.platform()
            pool = uow.pools.get({"name": name})
            check_version("pool", pool.version, version)
            saved = uow.pools.save(pool.model_copy(update=changes))
            self.audit(uow, "pool.update", pool.id, name, before=pool, after=saved)
            return self._views(uow, [saved])[0]

    def delete(self, name: str, version: int, *, dry_run: bool = False) -> Deletion:
        """Delete a pool; ``dry_run`` changes nothing.

        Raises:
            ConflictError: quotas or live jobs reference it.
        """
        self.deps.require(Capability.POOL_WRITES)
        with self.deps.database.read() as uow:
            pool = _deletable(uow, name, version)
        if not dry_run:
            with self.deps.database.write() as uow:
                uow.platform()
                _deletable(uow, name, version)
                uow.pools.delete({"id": pool.id})
                self.audit(uow, "pool.delete", pool.id, name, before=pool)
        return Deletion(
            kind="pool", id=pool.id, name=name, consequences=(f"its capacity of {pool.capacity} is not used any more",)
        )

    def _views(self, uow: ReadUnitOfWork, pools: list[Pool]) -> list[PoolView]:
        snapshot = self.deps.admission.snapshot(uow)
        used, nominal = used_by_pool(snapshot), nominal_by_pool(snapshot)
        return [PoolView(pool, used.get(pool.name, 0), nominal.get(pool.name, 0)) for pool in pools]


def _deletable(uow: ReadUnitOfWork, name: str, version: int) -> Pool:
    """Return a pool that may be deleted. Raises as ``Pools.delete``."""
    pool = uow.pools.get({"name": name})
    check_version("pool", pool.version, version)
    quotas = uow.platform().quotas.all({"pool": name})
    jobs = [request for request in uow.admission.requests() if request.pool == name]
    if quotas or jobs:
        raise ConflictError(
            f"pool {name} has {count(len(quotas), 'quota')} and {count(len(jobs), 'active job')}",
            hint=f"delete the quotas (`windlass quota delete {name} --project PROJECT`) and cancel the jobs",
        )
    return pool
