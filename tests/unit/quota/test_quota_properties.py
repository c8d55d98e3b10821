"""What holds for every world the strategies can draw."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.quota.worlds import POOL, World, broken_rules, usage, worlds

from windlass.domain.quota import Claim, Code, Decisions, Quota, Snapshot, ledger, schedule, simulate

many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def queue_of(snapshot: Snapshot, project: str) -> list[Claim]:
    most = snapshot.pools[0].capacity
    possible = [each for each in snapshot.claims if most is None or each.gpus <= most]
    pending = [each for each in possible if each.project == project and each.admitted_at is None]
    return sorted(pending, key=lambda each: (-each.priority, each.queued_at, each.job))


@many
@given(worlds())
def test_what_is_admitted_is_covered_by_quota_and_capacity(world: World) -> None:
    decisions = schedule(world.snapshot)
    assert broken_rules(world.snapshot, usage(world.snapshot, decisions.admit)) == []


@many
@given(worlds(overcommitted=True))
def test_capacity_is_never_exceeded_where_quotas_promise_more(world: World) -> None:
    decisions = schedule(world.snapshot)
    assert broken_rules(world.snapshot, usage(world.snapshot, decisions.admit)) == []


@many
@given(worlds(), worlds(overcommitted=True))
def test_every_pending_job_is_admitted_or_told_why_not(one: World, other: World) -> None:
    for world in (one, other):
        decisions = schedule(world.snapshot)
        assert Counter([*decisions.admit, *decisions.waiting]) == Counter(world.pending)
        assert {each.job for each in decisions.preempt} <= world.running
        assert {each.by for each in decisions.preempt} <= decisions.waiting.keys()


@many
@given(worlds())
def test_jobs_of_a_project_start_in_order_of_priority_then_time(world: World) -> None:
    decisions = schedule(world.snapshot)
    for project in usage(world.snapshot):
        queue = [each.job for each in queue_of(world.snapshot, project)]
        started = [job for job in decisions.admit if job in queue]
        assert started == queue[: len(started)]
        places = [decisions.waiting[job].position for job in queue[len(started) :]]
        assert places == list(range(1, len(places) + 1))


@many
@given(worlds())
def test_a_head_that_fits_is_not_left_waiting(world: World) -> None:
    decisions = schedule(world.snapshot)
    if decisions.preempt:
        return  # then room is being kept for somebody
    for project in usage(world.snapshot):
        for head in [each for each in queue_of(world.snapshot, project) if each.job in decisions.waiting][:1]:
            assert broken_rules(world.snapshot, usage(world.snapshot, [*decisions.admit, head.job]))


@many
@given(worlds())
def test_no_head_within_nominal_quota_starves(world: World) -> None:
    """Either it starts, or somebody is told to stop; once they are gone the owner has its nominal quota."""
    decisions = schedule(world.snapshot)
    if waiting_within_nominal(world, decisions):
        assert decisions.preempt
    last = world.settle()[-1]
    assert not waiting_within_nominal(world, last)


def waiting_within_nominal(world: World, decisions: Decisions) -> list[str]:
    used = usage(world.snapshot, decisions.admit)
    nominal = {each.project: each.nominal for each in world.quotas}
    heads = {project: queue_of(world.snapshot, project) for project in used}
    return [
        queue[0].job
        for project, every in heads.items()
        if (queue := [each for each in every if each.job in decisions.waiting])
        and used[project] + queue[0].gpus <= nominal[project]
    ]


@many
@given(worlds())
def test_nobody_is_stopped_within_its_nominal_quota_by_another_project(world: World) -> None:
    decisions = schedule(world.snapshot)
    used = usage(world.snapshot, decisions.admit)
    nominal = {each.project: each.nominal for each in world.quotas}
    claims = world.claims
    for each in decisions.preempt:
        victim, by = claims[each.job], claims[each.by]
        if each.reason == "priority":
            assert victim.project == by.project
            assert victim.priority < by.priority
        else:
            assert victim.project != by.project
            assert used[victim.project] > nominal[victim.project]


@many
@given(worlds(), worlds(overcommitted=True))
def test_a_second_look_changes_nothing(one: World, other: World) -> None:
    for world in (one, other):
        world.step()
        again = schedule(world.snapshot)
        assert again.admit == ()
        assert again.preempt == ()


@many
@given(worlds())
def test_a_job_is_stopped_for_one_that_then_waits_for_it(world: World) -> None:
    decisions = schedule(world.snapshot)
    for each in decisions.preempt:
        verdict = decisions.waiting[each.by]
        if verdict.code is Code.WAITING_FOR_PREEMPTED:
            assert each.job in verdict.leaving


@many
@given(worlds(), st.data())
def test_a_simulation_says_what_the_scheduler_then_does(world: World, data: st.DataObject) -> None:
    project = data.draw(st.sampled_from([each.project for each in world.quotas]))
    claim = world.submit("new", project, data.draw(st.integers(1, 8)), data.draw(st.integers(0, 2)))
    snapshot = world.snapshot
    before = snapshot.model_copy(update={"claims": tuple(c for c in snapshot.claims if c.job != "new")})
    simulation, decisions = simulate(before, claim), schedule(snapshot)
    assert simulation.verdict == "starts" if "new" in decisions.admit else simulation.verdict != "starts"
    if simulation.verdict != "starts":
        verdict = decisions.waiting["new"]
        assert (simulation.verdict == "never") == verdict.never
        assert (simulation.reason, simulation.position) == (verdict.reason, verdict.position)
    assert simulation.would_preempt == tuple(each.job for each in decisions.preempt if each.by == "new")


@many
@given(worlds(), st.data())
def test_the_changes_a_simulation_names_help_and_less_would_not(world: World, data: st.DataObject) -> None:
    project = data.draw(st.sampled_from([each.project for each in world.quotas]))
    claim = world.submit("new", project, data.draw(st.integers(1, 9)), data.draw(st.integers(0, 2)))
    simulation = simulate(world.snapshot, claim)
    helped = {"never": {"starts", "waits"}, "waits": {"starts"}}.get(simulation.verdict, set())
    for change in simulation.smallest_change:
        for by, expected in ((change.by, True), (change.by - 1, False)):
            if by == 0:
                continue
            changed, smaller = _changed(world, claim, change.kind, by)
            assert (simulate(changed, smaller).verdict in helped) == expected


def _changed(world: World, claim: Claim, kind: str, by: int) -> tuple[Snapshot, Claim]:
    if kind == "reduce_gpus":
        return world.snapshot, claim.model_copy(update={"gpus": claim.gpus - by})
    name = {"raise_nominal": "nominal", "raise_borrowing_limit": "borrowing_limit"}[kind]

    def raised(each: Quota) -> Quota:
        here = each.project == claim.project
        return each.model_copy(update={name: getattr(each, name) + by}) if here else each

    return world.snapshot.model_copy(update={"quotas": tuple(raised(each) for each in world.quotas)}), claim


@many
@given(worlds())
def test_a_job_that_is_said_never_to_start_does_not_fit_an_empty_pool(world: World) -> None:
    decisions = schedule(world.snapshot)
    for job, verdict in decisions.waiting.items():
        alone = World(world.quotas, world.capacity, world.cohorts)
        alone.claims[job] = world.claims[job]
        assert (job in schedule(alone.snapshot).admit) != verdict.never
        assert verdict.never == (verdict.code in {Code.EXCEEDS_MAX_QUOTA, Code.EXCEEDS_POOL_CAPACITY})


@many
@given(worlds())
def test_the_ledger_adds_up(world: World) -> None:
    world.settle()
    rows = {row.project: row for row in ledger(world.snapshot)}
    used = usage(world.snapshot)
    for project, row in rows.items():
        assert row.used == used[project]
        assert row.borrowed == sum(row.borrowed_from.values()) == max(0, row.used - row.nominal)
        assert row.unbacked == 0
        assert row.lent == sum(row.lent_to.values()) <= max(0, row.nominal - row.used)
        assert project not in row.borrowed_from
        assert all(rows[lender].lent_to[project] == n for lender, n in row.borrowed_from.items())
        lend = next(each.lending_limit for each in world.quotas if each.project == project)
        assert lend is None or row.lent <= lend
        assert row.reclaimable <= row.lent
        assert row.pending == len([job for job in world.pending if world.claims[job].project == project])


@many
@given(worlds(), st.data())
def test_free_in_the_ledger_is_what_a_first_job_can_take_at_once(world: World, data: st.DataObject) -> None:
    world.settle()
    for job in sorted(world.pending):
        world.finish(job)
    row = data.draw(st.sampled_from(ledger(world.snapshot)))
    for gpus, starts in ((row.free, True), (row.free + 1, False)):
        if gpus:
            claim = Claim(job="new", project=row.project, pool=POOL, gpus=gpus, queued_at=world.tick())
            assert (simulate(world.snapshot, claim).verdict == "starts") == starts


@st.composite
def any_snapshots(draw: st.DrawFn) -> Snapshot:
    """Draw states that no scheduler made: quotas cut, jobs told to stop, anything running anywhere."""
    world = draw(worlds(overcommitted=draw(st.booleans())))
    for job in sorted(world.pending):
        if draw(st.booleans()):
            world._change(job, admitted_at=world.tick(), leaving=draw(st.booleans()))
    if draw(st.booleans()):
        world.quotas.pop()
    return world.snapshot


@many
@given(any_snapshots())
def test_from_any_state_it_ends_and_never_makes_things_worse(snapshot: Snapshot) -> None:
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
        assert row.borrowed == sum(row.borrowed_from.values()) + row.unbacked
        assert row.lent == sum(row.lent_to.values()) <= max(0, row.nominal - row.used)
        assert row.unbacked >= 0
