"""Stores each price of a pool with the time from which it holds, for every change of it."""

from collections.abc import Callable
from dataclasses import dataclass

from windlass.domain.projects import Pool
from windlass.domain.usage import PoolPrice, to_micros
from windlass.ports import Changes, Clock, UnitOfWork


@dataclass(frozen=True)
class PoolPriceHistory:
    """Implements ``ports.CommitHook``: the API and the cluster sync write pools, and neither can forget the price."""

    clock: Clock

    def prepare(self, uow: UnitOfWork, changes: Changes) -> Callable[[], None] | None:
        """Add the prices that the transaction changes."""
        for pool in changes.saved.get(Pool, ()):
            if isinstance(pool, Pool):
                self._add(uow, pool)
        return None

    def _add(self, uow: UnitOfWork, pool: Pool) -> None:
        history, micros = uow.pool_prices.all({"pool": pool.name}), to_micros(pool.price_per_gpu_hour)
        if history and history[-1].micros_per_gpu_hour == micros:
            return
        now = self.clock.now()
        if history and history[-1].valid_from >= now:  # it was changed twice at the same moment
            uow.pool_prices.save(history[-1].model_copy(update={"micros_per_gpu_hour": micros}))
        else:
            uow.pool_prices.add(PoolPrice(pool=pool.name, valid_from=now, micros_per_gpu_hour=micros))
