"""Long lives: jobs come and go, quotas change, jobs are stopped late, and the scheduler is asked at any time."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.quota.worlds import PROJECTS, World, broken_rules, limits, quota, quota_sets, usage

from windlass.domain.quota import Decisions, Quota, check_quotas, ledger, schedule, simulate


class QuotaMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World([])
        self.number = 0
        self.lawful = True
        """Usage obeys the quotas: true until a quota is cut below its use, and again when nothing runs."""

    @initialize(drawn=quota_sets(), spare=st.none() | st.integers(-3, 3))
    def begin(self, drawn: tuple[list[Quota], dict[str, str | None]], spare: int | None) -> None:
        quotas, cohorts = drawn
        total = sum(each.nominal for each in quotas)
        self.world = World(quotas, None if spare is None else max(0, total + spare), cohorts)

    @rule(project=st.sampled_from(PROJECTS), gpus=st.integers(1, 6), priority=st.integers(0, 2))
    def submit(self, project: str, gpus: int, priority: int) -> None:
        self.number += 1
        job = f"j{self.number:03}"
        claim = self.world.submit(job, project, gpus, priority)
        foreseen = simulate(self.world.snapshot, claim)
        decisions = schedule(self.world.snapshot)
        assert (foreseen.verdict == "starts") == (job in decisions.admit)
        if foreseen.verdict != "starts":
            assert foreseen.reason == decisions.waiting[job].reason

    @rule()
    def decide(self) -> None:
        before = usage(self.world.snapshot)
        decisions = self.world.step()
        self._check_admissions(before, decisions)
        again = schedule(self.world.snapshot)
        assert (again.admit, again.preempt) == ((), ())

    def _check_admissions(self, before: dict[str, int], decisions: Decisions) -> None:
        used = usage(self.world.snapshot)
        grown = {project for project in used if used[project] > before.get(project, 0)}
        assert bool(grown) == bool(decisions.admit)
        if self.lawful:
            assert broken_rules(self.world.snapshot, used) == []
        for each in self.world.quotas:
            if each.project in grown and each.borrowing_limit is not None:
                alone = (self.world.cohorts or {}).get(each.project) is None
                assert used[each.project] <= each.nominal + (0 if alone else each.borrowing_limit)
        if decisions.admit and self.world.capacity is not None:
            assert sum(used.values()) <= self.world.capacity

    @precondition(lambda self: self.world.leaving)
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        """One of the jobs told to stop has stopped; most often not all at the same time."""
        self.world.stop([data.draw(st.sampled_from(sorted(self.world.leaving)))])

    @precondition(lambda self: self.world.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.world.finish(data.draw(st.sampled_from(sorted(self.world.running))))
        self.lawful = self.lawful or not self.world.running | self.world.leaving

    @precondition(lambda self: self.world.pending)
    @rule(data=st.data())
    def cancel_pending(self, data: st.DataObject) -> None:
        self.world.finish(data.draw(st.sampled_from(sorted(self.world.pending))))

    @precondition(lambda self: self.world.running)
    @rule(data=st.data())
    def cancel_running(self, data: st.DataObject) -> None:
        self.world._change(data.draw(st.sampled_from(sorted(self.world.running))), leaving=True)

    @rule(data=st.data(), nominal=st.integers(0, 8), borrow=limits)
    def change_quota(self, data: st.DataObject, nominal: int, borrow: int | None) -> None:
        index = data.draw(st.integers(0, len(self.world.quotas) - 1))
        project = self.world.quotas[index].project
        lend = data.draw(st.none() | st.integers(0, nominal))
        self.world.quotas[index] = quota(project, nominal, borrow, lend)
        self.lawful = not broken_rules(self.world.snapshot, usage(self.world.snapshot))

    @rule()
    def let_it_settle(self) -> None:
        """All who are told to stop do, until nothing changes: then every owner has what is its own.

        Unless the pool has less than was promised, or a cut left more running than quotas allow and nobody who wants
        its own may reclaim that.
        """
        last = self.world.settle()[-1]
        used, total = usage(self.world.snapshot), sum(each.nominal for each in self.world.quotas)
        if self.world.capacity is not None and total > self.world.capacity:
            return
        if broken_rules(self.world.snapshot, used):
            return
        for each in self.world.quotas:
            heads = [
                self.world.claims[job]
                for job, verdict in last.waiting.items()
                if verdict.position == 1 and self.world.claims[job].project == each.project
            ]
            assert all(used[each.project] + head.gpus > each.nominal for head in heads)

    @invariant()
    def books_balance(self) -> None:
        rows = ledger(self.world.snapshot)
        assert sum(row.borrowed - row.unbacked for row in rows) == sum(row.lent for row in rows)
        assert sum(row.used for row in rows) == sum(usage(self.world.snapshot).values())
        assert all(each.code != "unknown_pool" for each in check_quotas(self.world.snapshot))


TestQuotaMachine = QuotaMachine.TestCase
TestQuotaMachine.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
