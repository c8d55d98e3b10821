"""The arithmetic of one pool: who uses how much, and how much more a project may take.

The rules are those of Kueue's one-level cohorts (``pkg/cache/scheduler/resource_node.go``): what a lending limit
withholds is usable by its owner alone; the rest of all nominal quotas is one common pot. GPUs throughout.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from windlass.domain.quota.model import Claim, Quota

_InPool = TypeVar("_InPool", Claim, Quota)


@dataclass(frozen=True, slots=True)
class Terms:
    """A project's quota in a pool. ``withheld`` is the part of nominal that is never lent.

    ``quota`` is False for a project that holds GPUs in the pool and has no quota there. ``stopped``: see ``Quota``.
    """

    project: str
    nominal: int
    cohort: str | None = None
    borrowing_limit: int | None = None
    withheld: int = 0
    quota: bool = True
    stopped: bool = False

    @classmethod
    def of(cls, quota: Quota, cohort: str | None) -> Self:
        """Read a quota; without a cohort its limits mean nothing."""
        if cohort is None:
            return cls(quota.project, quota.nominal, stopped=quota.stopped)
        lendable = quota.nominal if quota.lending_limit is None else quota.lending_limit
        withheld = max(0, quota.nominal - lendable)
        return cls(quota.project, quota.nominal, cohort, quota.borrowing_limit, withheld, stopped=quota.stopped)


def by_pool(values: Iterable[_InPool]) -> dict[str, list[_InPool]]:
    """Group claims or quotas by their pool."""
    found: dict[str, list[_InPool]] = {}
    for value in values:
        found.setdefault(value.pool, []).append(value)
    return found


def terms_by_project(
    quotas: Iterable[Quota], claims: Iterable[Claim], cohorts: Mapping[str, str | None]
) -> dict[str, Terms]:
    """Return the terms of every project in one pool.

    A project that holds GPUs without a quota (it was taken away) has nominal 0: all it uses is borrowed, so its cohort
    can reclaim it.
    """
    terms = {quota.project: Terms.of(quota, cohorts.get(quota.project)) for quota in quotas}
    for claim in claims:
        if claim.admitted_at is not None and claim.project not in terms:
            cohort = cohorts.get(claim.project)
            terms[claim.project] = Terms(claim.project, 0, cohort, borrowing_limit=0, quota=False)
    return terms


class Book:
    """Usage of one pool by project. ``add`` with a negative number takes usage away."""

    __slots__ = ("_capacity", "_lendable", "_shared", "_terms", "total", "used")

    def __init__(self, capacity: int | None, terms: Iterable[Terms], used: Mapping[str, int] | None = None) -> None:
        self._capacity = capacity
        self._terms: Mapping[str, Terms] = {each.project: each for each in terms}
        self._lendable: dict[str, int] = {}
        for each in self._terms.values():
            if each.cohort is not None:
                self._lendable[each.cohort] = self._lendable.get(each.cohort, 0) + each.nominal - each.withheld
        self._shared = dict.fromkeys(self._lendable, 0)
        self.used = dict.fromkeys(self._terms, 0)
        self.total = 0
        for project, gpus in (used or {}).items():
            self.add(project, gpus)

    def copy(self) -> "Book":
        """Return an independent book of the same terms and usage."""
        return Book(self._capacity, self._terms.values(), self.used)

    def terms(self, project: str) -> Terms:
        """Return a project's terms."""
        return self._terms[project]

    def add(self, project: str, gpus: int) -> None:
        """Book ``gpus`` more for a project, whether allowed or not."""
        terms = self._terms[project]
        before = self.used[project]
        self.used[project] = after = before + gpus
        self.total += gpus
        if terms.cohort is not None:
            self._shared[terms.cohort] += max(0, after - terms.withheld) - max(0, before - terms.withheld)

    def borrowing(self, project: str, more: int = 0) -> bool:
        """Tell whether the project, with ``more`` on top, uses more than its nominal quota."""
        return self.used[project] + more > self._terms[project].nominal

    def available(self, project: str, *, limited: bool = True) -> int:
        """Return what a new job of the project may take now; negative after quotas were cut below their use.

        With ``limited`` False, what it could take if it had no borrowing limit.
        """
        terms, used = self._terms[project], self.used[project]
        if terms.cohort is None:
            room = terms.nominal - used
        else:
            room = self._lendable[terms.cohort] - self._shared[terms.cohort]
            if limited and terms.borrowing_limit is not None:
                room = min(room, terms.nominal + terms.borrowing_limit - max(used, terms.withheld))
            room += max(0, terms.withheld - used)
        return room if self._capacity is None else min(room, self._capacity - self.total)

    def ceiling(self, project: str, *, limited: bool = True) -> int:
        """Return the most that one job of the project could ever have by its quota, everything being idle."""
        terms = self._terms[project]
        if terms.cohort is None:
            return terms.nominal
        most = terms.withheld + self._lendable[terms.cohort]
        if limited and terms.borrowing_limit is not None:
            most = min(most, terms.nominal + terms.borrowing_limit)
        return most
