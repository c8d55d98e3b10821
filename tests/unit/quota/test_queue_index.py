"""The index gives the answers of ``schedule`` on everything it contains."""

from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.quota.scenarios import POOL, START, Scenario, at, quota, scenarios

from windlass.domain.quota import PoolState, QueueIndex, Quota, ResourceDemand, Snapshot, schedule

many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def index_of(snapshot: Snapshot) -> QueueIndex:
    index = QueueIndex()
    for pool in snapshot.pools:
        index.set_pool(pool)
    for each in snapshot.quotas:
        index.set_quota(each)
    for project, cohort in snapshot.cohorts.items():
        index.set_cohort(project, cohort)
    for demand in snapshot.demands:
        index.put(demand)
    return index


def check(index: QueueIndex, snapshot: Snapshot) -> None:
    decisions, pools = schedule(snapshot), [pool.name for pool in snapshot.pools]
    decided = [index.decide(pool) for pool in pools]
    assert [job for each in decided for job in each.admit] == list(decisions.admit)
    assert [job for each in decided for job in each.preempt] == list(decisions.preempt)
    assert index.explain([demand.job for demand in snapshot.demands]) == decisions.waiting
    for job, decision in decisions.waiting.items():
        assert index.explain([job]) == {job: decision}
    assert {demand.job for demand in index.snapshot().demands} == {demand.job for demand in snapshot.demands}


@many
@given(scenarios(), scenarios(overcommitted=True))
def test_index_decides_and_explains_as_the_scheduler_does(one: Scenario, other: Scenario) -> None:
    for scenario in (one, other):
        check(index_of(scenario.snapshot), scenario.snapshot)


@many
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(0, 2), st.booleans()), min_size=20, max_size=90
    ),
    st.integers(0, 40),
    st.integers(1, 5),
)
def test_long_queues_are_decided_and_explained_from_their_heads(
    jobs: list[tuple[str, int, int, bool]], capacity: int, limit: int
) -> None:
    demands = [
        ResourceDemand(
            job=f"job-{number:03}",
            project=project,
            pool=POOL,
            gpus=gpus,
            priority=priority,
            queued_at=at(number),
            admitted_at=at(100 + number) if admitted and number < 5 else None,
        )
        for number, (project, gpus, priority, admitted) in enumerate(jobs)
    ]
    snapshot = Snapshot(
        pools=(PoolState(name=POOL, capacity=capacity, max_gpus_per_job=limit),),
        quotas=(quota("a", 8, borrow=4), quota("b", 4), Quota(project="c", pool=POOL, nominal=9, stopped=True)),
        cohorts={"a": "all", "b": "all", "c": "all"},
        demands=tuple(demands),
    )
    check(index_of(snapshot), snapshot)


@many
@given(scenarios(), st.data())
def test_index_follows_changes(scenario: Scenario, data: st.DataObject) -> None:
    index = index_of(scenario.snapshot)
    for job in data.draw(st.lists(st.sampled_from(sorted(scenario.demands)), max_size=4)) if scenario.demands else []:
        demand = scenario.demands.pop(job, None)
        if demand is None:
            continue
        index.remove(job)
        if data.draw(st.booleans()):
            changed = demand.model_copy(
                update={"priority": data.draw(st.integers(0, 3)), "queued_at": START + timedelta(seconds=500)}
            )
            scenario.demands[job] = changed
            index.put(changed)
    check(index, scenario.snapshot)


def test_job_behind_a_long_queue_changes_no_decision() -> None:
    index = QueueIndex()
    index.set_pool(PoolState(name=POOL, capacity=1))
    index.set_quota(quota("a", 1))
    for number in range(50):
        index.put(ResourceDemand(job=f"job-{number}", project="a", pool=POOL, gpus=1, queued_at=at(number)))
    index.changed.clear()
    index.put(ResourceDemand(job="last", project="a", pool=POOL, gpus=1, queued_at=at(99)))
    assert index.changed == set()
    index.put(ResourceDemand(job="first", project="a", pool=POOL, gpus=1, priority=1, queued_at=at(99)))
    assert index.changed == {POOL}
