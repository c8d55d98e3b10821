"""Properties of the scheduler, the simulation and the ledger."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.quota.scenarios import POOL, Scenario, quota_violations, scenarios, usage

from windlass.domain.quota import Decisions, Quota, QuotaCode, ResourceDemand, Snapshot, ledger, schedule, simulate

many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def queue_of(snapshot: Snapshot, project: str) -> list[ResourceDemand]:
    maximum = snapshot.pools[0].capacity
    possible = [each for each in snapshot.demands if maximum is None or each.gpus <= maximum]
    pending = [each for each in possible if each.project == project and each.admitted_at is None]
    return sorted(pending, key=lambda each: (-each.priority, each.queued_at, each.job))


@many
@given(scenarios())
def test_admitted_jobs_are_within_quota_and_capacity(scenario: Scenario) -> None:
    decisions = schedule(scenario.snapshot)
    assert quota_violations(scenario.snapshot, usage(scenario.snapshot, decisions.admit)) == []


@many
@given(scenarios(overcommitted=True))
def test_capacity_is_not_exceeded_when_quotas_are_overcommitted(scenario: Scenario) -> None:
    decisions = schedule(scenario.snapshot)
    assert quota_violations(scenario.snapshot, usage(scenario.snapshot, decisions.admit)) == []


@many
@given(scenarios(), scenarios(overcommitted=True))
def test_every_pending_job_is_admitted_or_has_a_reason(one: Scenario, other: Scenario) -> None:
    for scenario in (one, other):
        decisions = schedule(scenario.snapshot)
        assert Counter([*decisions.admit, *decisions.waiting]) == Counter(scenario.pending)
        assert {each.job for each in decisions.preempt} <= scenario.running
        assert {each.by for each in decisions.preempt} <= decisions.waiting.keys()


@many
@given(scenarios())
def test_jobs_of_a_project_start_in_order_of_priority_then_time(scenario: Scenario) -> None:
    decisions = schedule(scenario.snapshot)
    for project in usage(scenario.snapshot):
        queue = [each.job for each in queue_of(scenario.snapshot, project)]
        started = [job for job in decisions.admit if job in queue]
        assert started == queue[: len(started)]
        places = [decisions.waiting[job].position for job in queue[len(started) :]]
        assert places == list(range(1, len(places) + 1))


@many
@given(scenarios())
def test_a_head_that_fits_is_admitted(scenario: Scenario) -> None:
    decisions = schedule(scenario.snapshot)
    if decisions.preempt:
        return  # GPUs are reserved for the preempting job
    for project in usage(scenario.snapshot):
        for head in [each for each in queue_of(scenario.snapshot, project) if each.job in decisions.waiting][:1]:
            assert quota_violations(scenario.snapshot, usage(scenario.snapshot, [*decisions.admit, head.job]))


@many
@given(scenarios())
def test_no_head_within_nominal_quota_starves(scenario: Scenario) -> None:
    """Either it starts or it preempts; after the victims have stopped, the project has its nominal quota."""
    decisions = schedule(scenario.snapshot)
    if waiting_within_nominal(scenario, decisions):
        assert decisions.preempt
    last = scenario.run_until_stable()[-1]
    assert not waiting_within_nominal(scenario, last)


def waiting_within_nominal(scenario: Scenario, decisions: Decisions) -> list[str]:
    used = usage(scenario.snapshot, decisions.admit)
    nominal = {each.project: each.nominal for each in scenario.quotas}
    heads = {project: queue_of(scenario.snapshot, project) for project in used}
    return [
        queue[0].job
        for project, every in heads.items()
        if (queue := [each for each in every if each.job in decisions.waiting])
        and used[project] + queue[0].gpus <= nominal[project]
    ]


@many
@given(scenarios())
def test_jobs_within_nominal_quota_are_not_preempted_by_other_projects(scenario: Scenario) -> None:
    decisions = schedule(scenario.snapshot)
    used = usage(scenario.snapshot, decisions.admit)
    nominal = {each.project: each.nominal for each in scenario.quotas}
    demands = scenario.demands
    for each in decisions.preempt:
        victim, by = demands[each.job], demands[each.by]
        if each.reason == "priority":
            assert victim.project == by.project
            assert victim.priority < by.priority
        else:
            assert victim.project != by.project
            assert used[victim.project] > nominal[victim.project]


@many
@given(scenarios(), scenarios(overcommitted=True))
def test_a_second_step_changes_nothing(one: Scenario, other: Scenario) -> None:
    for scenario in (one, other):
        scenario.step()
        second = schedule(scenario.snapshot)
        assert second.admit == ()
        assert second.preempt == ()


@many
@given(scenarios())
def test_a_preempting_job_waits_for_its_victims(scenario: Scenario) -> None:
    decisions = schedule(scenario.snapshot)
    for each in decisions.preempt:
        decision = decisions.waiting[each.by]
        if decision.code is QuotaCode.WAITING_FOR_PREEMPTED:
            assert each.job in decision.terminating


@many
@given(scenarios(), st.data())
def test_a_simulation_predicts_the_decision_of_the_scheduler(scenario: Scenario, data: st.DataObject) -> None:
    project = data.draw(st.sampled_from([each.project for each in scenario.quotas]))
    demand = scenario.submit("new", project, data.draw(st.integers(1, 8)), data.draw(st.integers(0, 2)))
    snapshot = scenario.snapshot
    before = snapshot.model_copy(update={"demands": tuple(c for c in snapshot.demands if c.job != "new")})
    simulation, decisions = simulate(before, demand), schedule(snapshot)
    assert simulation.verdict == "starts" if "new" in decisions.admit else simulation.verdict != "starts"
    if simulation.verdict != "starts":
        decision = decisions.waiting["new"]
        assert (simulation.verdict == "never") == decision.never
        assert (simulation.reason, simulation.position) == (decision.reason, decision.position)
    assert simulation.would_preempt == tuple(each.job for each in decisions.preempt if each.by == "new")


@many
@given(scenarios(), st.data())
def test_suggestions_of_a_simulation_are_sufficient_and_minimal(scenario: Scenario, data: st.DataObject) -> None:
    project = data.draw(st.sampled_from([each.project for each in scenario.quotas]))
    demand = scenario.submit("new", project, data.draw(st.integers(1, 9)), data.draw(st.integers(0, 2)))
    simulation = simulate(scenario.snapshot, demand)
    helped = {"never": {"starts", "waits"}, "waits": {"starts"}}.get(simulation.verdict, set())
    present = next(each for each in scenario.quotas if each.project == project)
    for change in simulation.smallest_change:
        if change.kind == "reduce_gpus":
            assert change.to == demand.gpus - change.by
        else:
            assert change.to == getattr(present, change.kind.removeprefix("raise_")) + change.by
        for by, expected in ((change.by, True), (change.by - 1, False)):
            if by == 0:
                continue
            changed, smaller = _changed(scenario, demand, change.kind, by)
            assert (simulate(changed, smaller).verdict in helped) == expected


def _changed(scenario: Scenario, demand: ResourceDemand, kind: str, by: int) -> tuple[Snapshot, ResourceDemand]:
    if kind == "reduce_gpus":
        return scenario.snapshot, demand.model_copy(update={"gpus": demand.gpus - by})
    name = {"raise_nominal": "nominal", "raise_borrowing_limit": "borrowing_limit"}[kind]

    def raised(each: Quota) -> Quota:
        here = each.project == demand.project
        return each.model_copy(update={name: getattr(each, name) + by}) if here else each

    return scenario.snapshot.model_copy(update={"quotas": tuple(raised(each) for each in scenario.quotas)}), demand


@many
@given(scenarios())
def test_a_permanent_reason_also_holds_in_an_empty_pool(scenario: Scenario) -> None:
    decisions = schedule(scenario.snapshot)
    for job, decision in decisions.waiting.items():
        alone = Scenario(scenario.quotas, scenario.capacity, scenario.cohorts)
        alone.demands[job] = scenario.demands[job]
        assert (job in schedule(alone.snapshot).admit) != decision.never
        assert decision.never == (decision.code in {QuotaCode.EXCEEDS_MAX_QUOTA, QuotaCode.EXCEEDS_POOL_CAPACITY})


@many
@given(scenarios())
def test_the_ledger_adds_up(scenario: Scenario) -> None:
    scenario.run_until_stable()
    rows = {row.project: row for row in ledger(scenario.snapshot)}
    used = usage(scenario.snapshot)
    for project, row in rows.items():
        assert row.used == used[project]
        assert row.borrowed == sum(row.borrowed_from.values()) == max(0, row.used - row.nominal)
        assert row.overcommitted == 0
        assert row.lent == sum(row.lent_to.values()) <= max(0, row.nominal - row.used)
        assert project not in row.borrowed_from
        assert all(rows[lender].lent_to[project] == n for lender, n in row.borrowed_from.items())
        lend = next(each.lending_limit for each in scenario.quotas if each.project == project)
        assert lend is None or row.lent <= lend
        assert row.reclaimable <= row.lent
        assert row.pending == len([job for job in scenario.pending if scenario.demands[job].project == project])


@many
@given(scenarios(), st.data())
def test_free_in_the_ledger_is_the_largest_job_that_starts_now(scenario: Scenario, data: st.DataObject) -> None:
    scenario.run_until_stable()
    for job in sorted(scenario.pending):
        scenario.finish(job)
    row = data.draw(st.sampled_from(ledger(scenario.snapshot)))
    for gpus, starts in ((row.free, True), (row.free + 1, False)):
        if gpus:
            demand = ResourceDemand(job="new", project=row.project, pool=POOL, gpus=gpus, queued_at=scenario.tick())
            assert (simulate(scenario.snapshot, demand).verdict == "starts") == starts


@st.composite
def any_snapshots(draw: st.DrawFn) -> Snapshot:
    """Draw arbitrary states: quotas cut, jobs terminating, usage beyond the quotas."""
    scenario = draw(scenarios(overcommitted=draw(st.booleans())))
    for job in sorted(scenario.pending):
        if draw(st.booleans()):
            scenario._change(job, admitted_at=scenario.tick(), terminating=draw(st.booleans()))
    if draw(st.booleans()):
        scenario.quotas.pop()
    return scenario.snapshot


@many
@given(any_snapshots())
def test_scheduling_from_any_state_terminates_within_limits(snapshot: Snapshot) -> None:
    decisions = schedule(snapshot)
    before, after = usage(snapshot), usage(snapshot, decisions.admit)
    for quota in snapshot.quotas:
        grown = after[quota.project] > before[quota.project]
        limit = quota.borrowing_limit
        if grown and (limit is not None or snapshot.cohorts[quota.project] is None):
            assert after[quota.project] <= quota.nominal + (limit or 0)
    capacity = snapshot.pools[0].capacity
    if decisions.admit and capacity is not None:
        assert sum(after.values()) <= capacity
    for cohort in {name for name in snapshot.cohorts.values() if name is not None}:
        members = [each for each in snapshot.quotas if snapshot.cohorts[each.project] == cohort]
        if any(after[each.project] > before[each.project] for each in members):
            assert sum(after[each.project] for each in members) <= sum(each.nominal for each in members)


@many
@given(any_snapshots())
def test_the_ledger_adds_up_in_any_state(snapshot: Snapshot) -> None:
    for row in ledger(snapshot):
        assert row.borrowed == sum(row.borrowed_from.values()) + row.overcommitted
        assert row.lent == sum(row.lent_to.values()) <= max(0, row.nominal - row.used)
        assert row.overcommitted >= 0
