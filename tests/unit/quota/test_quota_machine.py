"""Stateful test: jobs, quota changes, late terminations and scheduling steps in random order."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.quota.scenarios import PROJECTS, Scenario, limits, quota, quota_sets, quota_violations, usage

from windlass.domain.quota import Decisions, Quota, check_quotas, ledger, schedule, simulate


class QuotaMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scenario = Scenario([])
        self.number = 0
        self.within_quota = True
        """Whether usage is within the quotas: False after a quota was cut below its usage, until nothing runs."""

    @initialize(drawn=quota_sets(), spare=st.none() | st.integers(-3, 3))
    def begin(self, drawn: tuple[list[Quota], dict[str, str | None]], spare: int | None) -> None:
        quotas, cohorts = drawn
        total = sum(each.nominal for each in quotas)
        self.scenario = Scenario(quotas, None if spare is None else max(0, total + spare), cohorts)

    @rule(project=st.sampled_from(PROJECTS), gpus=st.integers(1, 6), priority=st.integers(0, 2))
    def submit(self, project: str, gpus: int, priority: int) -> None:
        self.number += 1
        job = f"j{self.number:03}"
        demand = self.scenario.submit(job, project, gpus, priority)
        predicted = simulate(self.scenario.snapshot, demand)
        decisions = schedule(self.scenario.snapshot)
        assert (predicted.verdict == "starts") == (job in decisions.admit)
        if predicted.verdict != "starts":
            assert predicted.reason == decisions.waiting[job].reason

    @rule()
    def decide(self) -> None:
        before = usage(self.scenario.snapshot)
        decisions = self.scenario.step()
        self._check_admissions(before, decisions)
        second = schedule(self.scenario.snapshot)
        assert (second.admit, second.preempt) == ((), ())

    def _check_admissions(self, before: dict[str, int], decisions: Decisions) -> None:
        used = usage(self.scenario.snapshot)
        grown = {project for project in used if used[project] > before.get(project, 0)}
        assert bool(grown) == bool(decisions.admit)
        if self.within_quota:
            assert quota_violations(self.scenario.snapshot, used) == []
        for each in self.scenario.quotas:
            if each.project in grown and each.borrowing_limit is not None:
                alone = (self.scenario.cohorts or {}).get(each.project) is None
                assert used[each.project] <= each.nominal + (0 if alone else each.borrowing_limit)
        if decisions.admit and self.scenario.capacity is not None:
            assert sum(used.values()) <= self.scenario.capacity

    @precondition(lambda self: self.scenario.terminating)
    @rule(data=st.data())
    def terminate_one(self, data: st.DataObject) -> None:
        """One terminating job stops."""
        self.scenario.stop([data.draw(st.sampled_from(sorted(self.scenario.terminating)))])

    @precondition(lambda self: self.scenario.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.scenario.finish(data.draw(st.sampled_from(sorted(self.scenario.running))))
        self.within_quota = self.within_quota or not self.scenario.running | self.scenario.terminating

    @precondition(lambda self: self.scenario.pending)
    @rule(data=st.data())
    def cancel_pending(self, data: st.DataObject) -> None:
        self.scenario.finish(data.draw(st.sampled_from(sorted(self.scenario.pending))))

    @precondition(lambda self: self.scenario.running)
    @rule(data=st.data())
    def cancel_running(self, data: st.DataObject) -> None:
        self.scenario._change(data.draw(st.sampled_from(sorted(self.scenario.running))), terminating=True)

    @rule(data=st.data(), nominal=st.integers(0, 8), borrow=limits)
    def change_quota(self, data: st.DataObject, nominal: int, borrow: int | None) -> None:
        index = data.draw(st.integers(0, len(self.scenario.quotas) - 1))
        project = self.scenario.quotas[index].project
        lend = data.draw(st.none() | st.integers(0, nominal))
        self.scenario.quotas[index] = quota(project, nominal, borrow, lend)
        self.within_quota = not quota_violations(self.scenario.snapshot, usage(self.scenario.snapshot))

    @rule()
    def run_until_stable(self) -> None:
        """After a fixed point, no project waits within its nominal quota.

        Exceptions: quotas exceed the capacity of the pool, or usage exceeds the quotas after a cut.
        """
        last = self.scenario.run_until_stable()[-1]
        used, total = usage(self.scenario.snapshot), sum(each.nominal for each in self.scenario.quotas)
        if self.scenario.capacity is not None and total > self.scenario.capacity:
            return
        if quota_violations(self.scenario.snapshot, used):
            return
        for each in self.scenario.quotas:
            heads = [
                self.scenario.demands[job]
                for job, decision in last.waiting.items()
                if decision.position == 1 and self.scenario.demands[job].project == each.project
            ]
            assert all(used[each.project] + head.gpus > each.nominal for head in heads)

    @invariant()
    def ledger_is_balanced(self) -> None:
        rows = ledger(self.scenario.snapshot)
        assert sum(row.borrowed - row.overcommitted for row in rows) == sum(row.lent for row in rows)
        assert sum(row.used for row in rows) == sum(usage(self.scenario.snapshot).values())
        assert all(each.code != "unknown_pool" for each in check_quotas(self.scenario.snapshot))


TestQuotaMachine = QuotaMachine.TestCase
TestQuotaMachine.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
