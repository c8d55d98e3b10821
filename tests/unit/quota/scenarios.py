"""A simulated environment of the scheduler, an independent check of quota rules, and hypothesis strategies."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from windlass.domain.quota import Decisions, PoolState, Quota, ResourceDemand, Snapshot, schedule

POOL = "a100"
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def quota(project: str, nominal: int, borrow: int | None = None, lend: int | None = None, *, pool: str = POOL) -> Quota:
    return Quota(project=project, pool=pool, nominal=nominal, borrowing_limit=borrow, lending_limit=lend)


@dataclass
class Scenario:
    """Quotas and jobs. By default all projects are in one cohort; the clock is a counter, so times are unique."""

    quotas: list[Quota]
    capacity: int | None = None
    cohorts: dict[str, str | None] | None = None
    demands: dict[str, ResourceDemand] = field(default_factory=dict)
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
            demands=tuple(self.demands.values()),
        )

    def submit(self, job: str, project: str, gpus: int = 1, priority: int = 0, pool: str = POOL) -> ResourceDemand:
        demand = ResourceDemand(
            job=job, project=project, pool=pool, gpus=gpus, priority=priority, queued_at=self.tick()
        )
        self.demands[job] = demand
        return demand

    def step(self) -> Decisions:
        """Schedule once and apply the decisions; preempted jobs terminate but still use their GPUs."""
        decisions = schedule(self.snapshot)
        self.apply(decisions)
        return decisions

    def apply(self, decisions: Decisions) -> None:
        for job in decisions.admit:
            self._change(job, admitted_at=self.tick())
        for preemption in decisions.preempt:
            self._change(preemption.job, terminating=True)

    def stop(self, jobs: Iterable[str]) -> None:
        """Terminating jobs have stopped: they are pending again with their original queue time."""
        for job in list(jobs):
            self._change(job, admitted_at=None, terminating=False)

    def run_until_stable(self) -> list[Decisions]:
        """Step until nothing changes; preempted jobs stop at once."""
        steps = []
        for _ in range(200):
            decisions = self.step()
            steps.append(decisions)
            if not (decisions.admit or decisions.preempt or self.terminating):
                return steps
            self.stop(self.terminating)
        raise AssertionError("the scheduler does not reach a fixed point")

    def run(self, job: str, project: str, gpus: int = 1, priority: int = 0) -> None:
        """Add a running job."""
        self.submit(job, project, gpus, priority)
        self._change(job, admitted_at=self.tick())

    def finish(self, job: str) -> None:
        del self.demands[job]

    def _change(self, job: str, **changes: Any) -> None:
        self.demands[job] = ResourceDemand.model_validate({**self.demands[job].model_dump(), **changes})

    @property
    def running(self) -> set[str]:
        return {
            job for job, demand in self.demands.items() if demand.admitted_at is not None and not demand.terminating
        }

    @property
    def terminating(self) -> set[str]:
        return {job for job, demand in self.demands.items() if demand.terminating}

    @property
    def pending(self) -> set[str]:
        return {job for job, demand in self.demands.items() if demand.admitted_at is None}


def usage(snapshot: Snapshot, more: Iterable[str] = (), pool: str = POOL) -> dict[str, int]:
    """Return the GPUs in use by project; the jobs ``more`` count as admitted."""
    extra, used = set(more), {each.project: 0 for each in snapshot.quotas if each.pool == pool}
    for demand in snapshot.demands:
        if demand.pool == pool and (demand.admitted_at is not None or demand.job in extra):
            used[demand.project] = used.get(demand.project, 0) + demand.gpus
    return used


def quota_violations(snapshot: Snapshot, used: dict[str, int], pool: str = POOL) -> list[str]:
    """Return the rules that ``used`` violates, computed independently of the scheduler."""
    violations = []
    quotas = {each.project: each for each in snapshot.quotas if each.pool == pool}
    owed: dict[str, int] = {}
    lendable: dict[str, int] = {}
    for project, each in quotas.items():
        cohort = snapshot.cohorts.get(project)
        over, idle = max(0, used[project] - each.nominal), max(0, each.nominal - used[project])
        if over and cohort is None:
            violations.append(f"{project} borrows without a cohort")
        elif cohort is not None:
            if each.borrowing_limit is not None and over > each.borrowing_limit:
                violations.append(f"{project} borrows {over}, more than its limit")
            owed[cohort] = owed.get(cohort, 0) + over
            lends = idle if each.lending_limit is None else min(idle, each.lending_limit)
            lendable[cohort] = lendable.get(cohort, 0) + lends
    violations += [f"cohort {name} owes {n} of {lendable[name]}" for name, n in owed.items() if n > lendable[name]]
    capacity = next(each.capacity for each in snapshot.pools if each.name == pool)
    if capacity is not None and sum(used.values()) > capacity:
        violations.append("usage exceeds the capacity of the pool")
    return violations


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
def scenarios(draw: st.DrawFn, *, overcommitted: bool = False) -> Scenario:
    """Draw a scenario whose running jobs were admitted by the scheduler; the last jobs are not scheduled yet."""
    quotas, cohorts = draw(quota_sets())
    total = sum(each.nominal for each in quotas)
    capacity = draw(st.integers(1, max(1, total)) if overcommitted else st.none() | st.integers(total, total + 3))
    scenario = Scenario(quotas, capacity, cohorts)
    projects = [each.project for each in quotas]
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        scenario.run_until_stable()
        for job in sorted(scenario.running):
            if draw(st.integers(0, 3)) == 0:
                scenario.finish(job)
        for _ in range(draw(st.integers(0, 5))):
            number += 1
            gpus, priority = draw(st.integers(1, 6)), draw(st.integers(0, 2))
            scenario.submit(f"j{number:02}", draw(st.sampled_from(projects)), gpus, priority)
    return scenario
