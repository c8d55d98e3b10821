"""A small world around the scheduler: jobs come, start, are stopped, leave and finish. Also an oracle that adds up."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from windlass.domain.quota import Claim, Decisions, PoolState, Quota, Snapshot, schedule

POOL = "a100"
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def quota(project: str, nominal: int, borrow: int | None = None, lend: int | None = None, *, pool: str = POOL) -> Quota:
    return Quota(project=project, pool=pool, nominal=nominal, borrowing_limit=borrow, lending_limit=lend)


@dataclass
class World:
    """Projects named in ``cohorts`` share; the clock is a counter, so no two things happen at once."""

    quotas: list[Quota]
    capacity: int | None = None
    cohorts: dict[str, str | None] | None = None
    claims: dict[str, Claim] = field(default_factory=dict)
    clock: int = 0
    pools: tuple[PoolState, ...] = ()

    def __post_init__(self) -> None:
        if self.cohorts is None:
            self.cohorts = {each.project: "all" for each in self.quotas}
        if not self.pools:
            self.pools = (PoolState(name=POOL, capacity=self.capacity),)

    def tick(self) -> datetime:
        self.clock += 1
        return at(self.clock)

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(
            pools=self.pools,
            quotas=tuple(self.quotas),
            cohorts=self.cohorts or {},
            claims=tuple(self.claims.values()),
        )

    def submit(self, job: str, project: str, gpus: int = 1, priority: int = 0, pool: str = POOL) -> Claim:
        claim = Claim(job=job, project=project, pool=pool, gpus=gpus, priority=priority, queued_at=self.tick())
        self.claims[job] = claim
        return claim

    def step(self) -> Decisions:
        """Schedule once and do what it says; whoever is told to stop still holds."""
        decisions = schedule(self.snapshot)
        self.apply(decisions)
        return decisions

    def apply(self, decisions: Decisions) -> None:
        for job in decisions.admit:
            self._change(job, admitted_at=self.tick())
        for preemption in decisions.preempt:
            self._change(preemption.job, leaving=True)

    def stop(self, jobs: Iterable[str]) -> None:
        """The processes of preempted jobs are gone: they queue again at their old place."""
        for job in list(jobs):
            self._change(job, admitted_at=None, leaving=False)

    def settle(self) -> list[Decisions]:
        """Step until nothing happens any more, stopping at once whoever must stop."""
        seen = []
        for _ in range(200):
            decisions = self.step()
            seen.append(decisions)
            if not (decisions.admit or decisions.preempt or self.leaving):
                return seen
            self.stop(self.leaving)
        raise AssertionError("the world does not settle")

    def run(self, job: str, project: str, gpus: int = 1, priority: int = 0) -> None:
        """Put a job in as already running."""
        self.submit(job, project, gpus, priority)
        self._change(job, admitted_at=self.tick())

    def finish(self, job: str) -> None:
        del self.claims[job]

    def _change(self, job: str, **changes: Any) -> None:
        self.claims[job] = Claim.model_validate({**self.claims[job].model_dump(), **changes})

    @property
    def running(self) -> set[str]:
        return {job for job, claim in self.claims.items() if claim.admitted_at is not None and not claim.leaving}

    @property
    def leaving(self) -> set[str]:
        return {job for job, claim in self.claims.items() if claim.leaving}

    @property
    def pending(self) -> set[str]:
        return {job for job, claim in self.claims.items() if claim.admitted_at is None}


def usage(snapshot: Snapshot, more: Iterable[str] = (), pool: str = POOL) -> dict[str, int]:
    """GPUs held by project, with the jobs ``more`` counted as holding."""
    extra, used = set(more), {each.project: 0 for each in snapshot.quotas if each.pool == pool}
    for claim in snapshot.claims:
        if claim.pool == pool and (claim.admitted_at is not None or claim.job in extra):
            used[claim.project] = used.get(claim.project, 0) + claim.gpus
    return used


def broken_rules(snapshot: Snapshot, used: dict[str, int], pool: str = POOL) -> list[str]:
    """Check usage against the quotas from first principles: loans must be covered by idle, lendable quota."""
    broken = []
    quotas = {each.project: each for each in snapshot.quotas if each.pool == pool}
    owed: dict[str, int] = {}
    lendable: dict[str, int] = {}
    for project, each in quotas.items():
        cohort = snapshot.cohorts.get(project)
        over, idle = max(0, used[project] - each.nominal), max(0, each.nominal - used[project])
        if over and cohort is None:
            broken.append(f"{project} borrows without a cohort")
        elif cohort is not None:
            if each.borrowing_limit is not None and over > each.borrowing_limit:
                broken.append(f"{project} borrows {over}, more than its limit")
            owed[cohort] = owed.get(cohort, 0) + over
            lends = idle if each.lending_limit is None else min(idle, each.lending_limit)
            lendable[cohort] = lendable.get(cohort, 0) + lends
    broken += [f"cohort {name} owes {n} of {lendable[name]}" for name, n in owed.items() if n > lendable[name]]
    capacity = next(each.capacity for each in snapshot.pools if each.name == pool)
    if capacity is not None and sum(used.values()) > capacity:
        broken.append("the pool holds more than it has")
    return broken


PROJECTS = ("p1", "p2", "p3", "p4")
limits = st.none() | st.integers(0, 4)


@st.composite
def quota_sets(draw: st.DrawFn) -> tuple[list[Quota], dict[str, str | None]]:
    projects = PROJECTS[: draw(st.integers(1, len(PROJECTS)))]
    cohorts = {project: draw(st.sampled_from(["c", "c", "c", "d", None])) for project in projects}
    quotas = []
    for project in projects:
        nominal = draw(st.integers(0, 6))
        lend = draw(st.none() | st.integers(0, nominal))
        quotas.append(quota(project, nominal, draw(limits), lend))
    return quotas, cohorts


@st.composite
def worlds(draw: st.DrawFn, *, overcommitted: bool = False) -> World:
    """Draw a world with a history: what runs got there by the scheduler. The last jobs are still undecided."""
    quotas, cohorts = draw(quota_sets())
    total = sum(each.nominal for each in quotas)
    capacity = draw(st.integers(1, max(1, total)) if overcommitted else st.none() | st.integers(total, total + 3))
    world = World(quotas, capacity, cohorts)
    projects = [each.project for each in quotas]
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        world.settle()
        for job in sorted(world.running):
            if draw(st.integers(0, 3)) == 0:
                world.finish(job)
        for _ in range(draw(st.integers(0, 5))):
            number += 1
            gpus, priority = draw(st.integers(1, 6)), draw(st.integers(0, 2))
            world.submit(f"j{number:02}", draw(st.sampled_from(projects)), gpus, priority)
    return world
