"""Which warm trainers are created and deleted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.quota import PoolState, Quota, ResourceDemand, Snapshot
from windlass.domain.warm_trainers import (
    Placement,
    WarmTrainer,
    WarmTrainerState,
    new_warm_trainer_name,
    parse_key,
    plan_warm_trainers,
    warm_trainer_key,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
OURS, THEIRS = Placement("ours", "a100"), Placement("theirs", "a100")
PENDING, ADMITTED, CLAIMED, ENDED = WarmTrainerState


def trainer(state: WarmTrainerState, place: Placement = OURS, *, age: float = 5, outdated: bool = False) -> WarmTrainer:
    created_at = NOW - timedelta(seconds=age)
    name = new_warm_trainer_name()
    return WarmTrainer(**place._asdict(), name=name, state=state, outdated=outdated, created_at=created_at)


def demand(project: str, gpus: int, **more: Any) -> ResourceDemand:
    return ResourceDemand(job=f"job of {project}", project=project, pool="a100", gpus=gpus, queued_at=NOW, **more)


def snapshot(*demands: ResourceDemand) -> Snapshot:
    """Two projects of one cohort with two GPUs each."""
    quotas = tuple(Quota(project=name, pool="a100", nominal=2) for name in ("ours", "theirs"))
    cohorts = {"ours": "lab", "theirs": "lab"}
    return Snapshot(pools=(PoolState(name="a100", capacity=None),), quotas=quotas, cohorts=cohorts, demands=demands)


def test_one_is_created_while_quota_is_idle() -> None:
    plan = plan_warm_trainers({OURS: 2}, [], snapshot(), NOW)
    assert (plan.create, plan.delete) == ((OURS,), ())


def test_the_next_one_waits_until_the_quota_of_the_last_is_seen() -> None:
    assert plan_warm_trainers({OURS: 2, THEIRS: 1}, [trainer(PENDING)], snapshot(), NOW) == ((), ())
    assert plan_warm_trainers({OURS: 2}, [trainer(ADMITTED)], snapshot(), NOW).create == (OURS,)


def test_none_is_created_that_would_stop_a_borrower() -> None:
    borrowed = demand("theirs", 4, admitted_at=NOW)
    assert plan_warm_trainers({OURS: 1}, [], snapshot(borrowed), NOW).create == ()


def test_none_is_created_before_waiting_jobs() -> None:
    waiting = demand("ours", 9)
    assert plan_warm_trainers({OURS: 1}, [], snapshot(waiting), NOW).create == ()


def test_none_is_created_where_it_is_postponed() -> None:
    assert plan_warm_trainers({OURS: 1}, [], snapshot(), NOW, {OURS}).create == ()


@pytest.mark.parametrize(
    "useless",
    [trainer(ENDED), trainer(ADMITTED, outdated=True), trainer(PENDING, age=31), trainer(ADMITTED, THEIRS)],
    ids=["ended", "outdated", "not admitted", "not wanted"],
)
def test_a_useless_one_is_deleted(useless: WarmTrainer) -> None:
    kept = trainer(ADMITTED)
    assert plan_warm_trainers({OURS: 1}, [useless, kept], snapshot(), NOW) == ((), (useless,))


def test_the_newest_ones_are_surplus() -> None:
    oldest, newest, pending = trainer(ADMITTED, age=9), trainer(ADMITTED, age=1), trainer(PENDING, age=20)
    assert plan_warm_trainers({OURS: 1}, [newest, pending, oldest], snapshot(), NOW).delete == (newest, pending)


def test_those_of_runs_are_neither_counted_nor_deleted() -> None:
    claimed = [trainer(CLAIMED), trainer(CLAIMED, outdated=True), trainer(CLAIMED, THEIRS)]
    assert plan_warm_trainers({OURS: 1}, claimed, snapshot(), NOW) == ((OURS,), ())


@given(
    st.lists(st.builds(trainer, st.sampled_from(WarmTrainerState), st.sampled_from([OURS, THEIRS])), max_size=8),
    st.dictionaries(st.sampled_from([OURS, THEIRS]), st.integers(0, 3)),
)
def test_plans_approach_what_is_wanted(trainers: list[WarmTrainer], wanted: dict[Placement, int]) -> None:
    plan = plan_warm_trainers(wanted, trainers, snapshot(), NOW)
    deleted = {each.name for each in plan.delete}
    left = [each for each in trainers if each.name not in deleted and each.state is not CLAIMED]
    assert not any(each.state is CLAIMED for each in plan.delete)
    for place in (OURS, THEIRS):
        here = [each for each in left if (each.project, each.pool) == place]
        assert len(here) + plan.create.count(place) <= wanted.get(place, 0)
    assert len(plan.create) <= 1


def test_keys_are_read_back() -> None:
    name = new_warm_trainer_name()
    assert parse_key(warm_trainer_key("ours", name)) == ("ours", name)
    assert parse_key("job_01kq3n0000000000000000000a") is None
    assert parse_key("wl-ours/my-job") is None
