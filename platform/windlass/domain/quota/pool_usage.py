"""Usage of one pool by project, and how much more each project may use. Amounts are in GPUs.

The rules are those of Kueue's one-level cohorts (``pkg/cache/scheduler/resource_node.go``): quota above a lending
limit is usable only by its own project; the rest of all nominal quotas is shared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from windlass.domain.quota.model import Quota, ResourceDemand

_InPool = TypeVar("_InPool", ResourceDemand, Quota)


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """A project's quota in a pool. ``withheld`` is the part of nominal that is never lent.

    ``quota`` is False for a project that uses GPUs of the pool without a quota there. ``stopped``: see ``Quota``.
    """

    project: str
    nominal: int
    cohort: str | None = None
    borrowing_limit: int | None = None
    withheld: int = 0
    quota: bool = True
    stopped: bool = False

    @classmethod
    def from_quota(cls, quota: Quota, cohort: str | None) -> Self:
        """Return the limits of a quota; without a cohort, borrowing and lending limits do not apply."""
        if cohort is None:
            return cls(quota.project, quota.nominal, stopped=quota.stopped)
        lendable = quota.nominal if quota.lending_limit is None else quota.lending_limit
        withheld = max(0, quota.nominal - lendable)
        return cls(quota.project, quota.nominal, cohort, quota.borrowing_limit, withheld, stopped=quota.stopped)


def by_pool(values: Iterable[_InPool]) -> dict[str, list[_InPool]]:
    """Group demands or quotas by pool."""
    grouped: dict[str, list[_InPool]] = {}
    for value in values:
        grouped.setdefault(value.pool, []).append(value)
    return grouped


def limits_by_project(
    quotas: Iterable[Quota], demands: Iterable[ResourceDemand], cohorts: Mapping[str, str | None]
) -> dict[str, QuotaLimits]:
    """Return the limits of every project in one pool.

    A project that uses GPUs without a quota (it was deleted) has nominal 0: all its usage is borrowed, so its cohort
    can reclaim it.
    """
    limits = {quota.project: QuotaLimits.from_quota(quota, cohorts.get(quota.project)) for quota in quotas}
    for demand in demands:
        if demand.admitted_at is not None and demand.project not in limits:
            cohort = cohorts.get(demand.project)
            limits[demand.project] = QuotaLimits(demand.project, 0, cohort, borrowing_limit=0, quota=False)
    return limits


class PoolUsage:
    """Usage of one pool by project."""

    __slots__ = ("_capacity", "_lendable", "_limits", "_shared", "total", "used")

    def __init__(
        self, capacity: int | None, limits: Iterable[QuotaLimits], used: Mapping[str, int] | None = None
    ) -> None:
        self._capacity = capacity
        self._limits: Mapping[str, QuotaLimits] = {each.project: each for each in limits}
        self._lendable: dict[str, int] = {}
        for each in self._limits.values():
            if each.cohort is not None:
                self._lendable[each.cohort] = self._lendable.get(each.cohort, 0) + each.nominal - each.withheld
        self._shared = dict.fromkeys(self._lendable, 0)
        self.used = dict.fromkeys(self._limits, 0)
        self.total = 0
        for project, gpus in (used or {}).items():
            self.add(project, gpus)

    def copy(self) -> "PoolUsage":
        """Return an independent copy with the same limits and usage."""
        return PoolUsage(self._capacity, self._limits.values(), self.used)

    def limits(self, project: str) -> QuotaLimits:
        """Return a project's limits."""
        return self._limits[project]

    def add(self, project: str, gpus: int) -> None:
        """Add ``gpus`` (negative: remove) to a project's usage; limits are not checked."""
        limits = self._limits[project]
        before = self.used[project]
        self.used[project] = after = before + gpus
        self.total += gpus
        if limits.cohort is not None:
            self._shared[limits.cohort] += max(0, after - limits.withheld) - max(0, before - limits.withheld)

    def borrowing(self, project: str, more: int = 0) -> bool:
        """Return whether the project, with ``more`` GPUs added, uses more than its nominal quota."""
        return self.used[project] + more > self._limits[project].nominal

    def available(self, project: str, *, limited: bool = True) -> int:
        """Return the GPUs that a new job of the project may use now; negative when quotas were cut below usage.

        With ``limited`` False the borrowing limit is ignored.
        """
        limits, used = self._limits[project], self.used[project]
        if limits.cohort is None:
            available_gpus = limits.nominal - used
        else:
            available_gpus = self._lendable[limits.cohort] - self._shared[limits.cohort]
            if limited and limits.borrowing_limit is not None:
                available_gpus = min(
                    available_gpus, limits.nominal + limits.borrowing_limit - max(used, limits.withheld)
                )
            available_gpus += max(0, limits.withheld - used)
        return available_gpus if self._capacity is None else min(available_gpus, self._capacity - self.total)

    def ceiling(self, project: str, *, limited: bool = True) -> int:
        """Return the most GPUs that the quota allows one job of the project when the whole pool is idle."""
        limits = self._limits[project]
        if limits.cohort is None:
            return limits.nominal
        maximum = limits.withheld + self._lendable[limits.cohort]
        if limited and limits.borrowing_limit is not None:
            maximum = min(maximum, limits.nominal + limits.borrowing_limit)
        return maximum
