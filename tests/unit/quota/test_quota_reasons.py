"""What people read: reasons, simulations with their smallest change, the ledger, problems of the quotas."""

import pytest
from tests.unit.quota.worlds import POOL, World, quota

from windlass.domain.jobs import Owner, Reason
from windlass.domain.quota import Change, Code, PoolState, Problem, Verdict, check_quotas, ledger, schedule, simulate
from windlass.domain.quota.verdicts import ordinal


def reason_of(world: World, job: str) -> Reason:
    return schedule(world.snapshot).waiting[job].reason


def test_a_waiting_job_knows_its_place_and_what_is_free() -> None:
    world = World([quota("a", 8)])
    world.run("r", "a", 6)
    for job in ("q1", "q2", "q3"):
        world.submit(job, "a", 4)
    reason = reason_of(world, "q3")
    assert reason.code == "waiting_for_quota"
    assert reason.message == "3rd in queue; needs 4 GPUs of pool a100, 2 are free"
    assert reason.owner is Owner.NOBODY
    assert reason.facts == {"pool": POOL, "needed": 4, "free": 2, "position": 3, "ahead": "q1"}


def test_slots_of_a_pool_without_gpus_are_called_what_they_are() -> None:
    world = World([quota("a", 2)], pools=(PoolState(name="local", capacity=2, unit="CPU slot"),))
    world.quotas = [quota("a", 2, pool="local")]
    world.submit("r", "a", 1, pool="local")
    world.step()
    world.submit("q", "a", 2, pool="local")
    assert reason_of(world, "q").message == "1st in queue; needs 2 CPU slots of pool local, 1 is free"


def test_a_job_that_would_fit_is_told_who_is_ahead() -> None:
    world = World([quota("a", 4)])
    world.run("r", "a", 2)
    world.submit("big", "a", 4)
    world.submit("small", "a", 1)
    message = reason_of(world, "small").message
    assert message.startswith("2nd in queue; needs 1 GPU of pool a100, 2 are free, but jobs start in order")
    assert "job big" in message


def test_a_job_behind_an_impossible_one_is_told_to_remove_it() -> None:
    world = World([quota("a", 4)])
    world.submit("huge", "a", 5)
    world.submit("small", "a", 1)
    reason = reason_of(world, "small")
    assert (reason.code, reason.owner) == ("behind_head_of_queue", Owner.YOU)
    assert "huge" in reason.action


def test_a_reason_names_no_job_of_another_project() -> None:
    world = World([quota("a", 1), quota("b", 1)])
    world.run("a1", "a")
    world.run("secret", "a")
    world.submit("mine", "b")
    reason = reason_of(world, "mine")
    assert reason.message == "1st in queue; needs 1 GPU of pool a100 and waits for 1 job to stop"
    assert "secret" not in reason.model_dump_json()


def test_more_than_the_quota_ever_allows_names_both_ways_out() -> None:
    world = World([quota("a", 4, borrow=4), quota("b", 20)])
    world.submit("j", "a", 16)
    reason = reason_of(world, "j")
    assert reason.message == "Can never start: needs 16 GPUs of pool a100, the project's quota allows at most 8"
    assert reason.action == "Reduce the job by 8 to 8, or raise the project's borrowing limit by 8 to 12"
    assert [each["kind"] for each in reason.facts["changes"]] == ["reduce_gpus", "raise_borrowing_limit"]


NEVER = [
    (Code.EXCEEDS_MAX_QUOTA, "j", "a", 6, ["reduce_gpus to 4", "raise_nominal to 6"]),
    (Code.EXCEEDS_POOL_CAPACITY, "j", "a", 11, ["reduce_gpus to 4"]),
    (Code.EXCEEDS_JOB_LIMIT, "j", "wide", 9, ["reduce_gpus to 8", "raise_job_limit to 9"]),
    (Code.NO_QUOTA_IN_POOL, "j", "stranger", 3, ["raise_nominal to 3"]),
]


@pytest.mark.parametrize(("code", "job", "project", "gpus", "changes"), NEVER, ids=[row[0].value for row in NEVER])
def test_what_can_never_start_is_refused_with_the_smallest_change(
    code: Code, job: str, project: str, gpus: int, changes: list[str]
) -> None:
    pool = PoolState(name=POOL, capacity=10, max_gpus_per_job=8)
    world = World([quota("a", 4), quota("wide", 20)], cohorts={}, pools=(pool,))
    claim = world.submit(job, project, gpus)
    simulation = simulate(world.snapshot, claim)
    assert simulation.verdict == "never"
    assert simulation.reason is not None
    assert simulation.reason.code == code.value
    assert [f"{each.kind} to {each.to}" for each in simulation.smallest_change] == changes


def test_a_simulation_of_an_unknown_pool_is_never() -> None:
    world = World([quota("a", 4)])
    claim = world.submit("j", "a", 1, pool="h100")
    simulation = simulate(world.snapshot, claim)
    assert simulation.verdict == "never"
    assert simulation.reason is not None
    assert simulation.reason.message == "Can never start: there is no pool h100"


def test_a_job_that_waits_is_told_what_would_start_it_now() -> None:
    world = World([quota("a", 4, borrow=1), quota("b", 4)])
    world.run("r", "a", 3)
    simulation = simulate(world.snapshot, world.submit("j", "a", 4))
    assert (simulation.verdict, simulation.position) == ("waits", 1)
    assert simulation.smallest_change == (
        Change(kind="reduce_gpus", by=2, to=2),
        Change(kind="raise_borrowing_limit", by=2, to=3),
    )


def test_a_full_pool_offers_no_quota_change() -> None:
    world = World([quota("a", 4), quota("b", 4)], capacity=4)
    world.run("r", "b", 4)
    simulation = simulate(world.snapshot, world.submit("j", "a", 4))
    assert (simulation.verdict, simulation.smallest_change) == ("waits", ())


def test_a_simulation_names_whom_it_would_preempt_and_changes_nothing() -> None:
    world = World([quota("a", 1), quota("b", 1)])
    world.run("a1", "a")
    world.run("a2", "a")
    claim = world.submit("mine", "b")
    world.finish("mine")
    before = world.snapshot
    simulation = simulate(before, claim)
    assert (simulation.verdict, simulation.would_preempt) == ("waits", ("a2",))
    assert before == world.snapshot


def test_a_running_job_is_simulated_as_if_it_were_submitted_now() -> None:
    world = World([quota("a", 2)])
    world.run("r", "a", 2)
    world.run("other", "a", 1)
    assert simulate(world.snapshot, world.claims["r"]).verdict == "waits"


def test_the_ledger_deals_uneven_loans_by_largest_remainder() -> None:
    world = World([quota("a", 0), quota("b", 5), quota("c", 3), quota("d", 2)])
    world.run("a1", "a", 7)
    rows = {row.project: row for row in ledger(world.snapshot)}
    assert rows["a"].borrowed_from == {"b": 4, "c": 2, "d": 1}


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_sentence_of_its_own(code: Code) -> None:
    reason = Verdict(code, "a100", 4, free=0, position=1, limit=2, ahead="job_x", leaving=("job_y",)).reason
    assert reason.code == code.value
    assert "a100" in reason.message or code is Code.BEHIND_HEAD_OF_QUEUE
    assert "None" not in reason.message


def test_ordinals() -> None:
    numbers = [1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111, 112]
    words = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th", "112th"]
    assert [ordinal(number) for number in numbers] == words


def test_the_ledger_says_who_lends_to_whom() -> None:
    world = World([quota("a", 2), quota("b", 4), quota("c", 2), quota("d", 3, lend=0)])
    world.run("a1", "a", 5)
    world.submit("b-later", "b", 3)
    rows = {row.project: row for row in ledger(world.snapshot)}
    assert (rows["a"].borrowed, rows["a"].borrowed_from) == (3, {"b": 2, "c": 1})
    assert (rows["b"].lent, rows["b"].lent_to, rows["b"].pending) == (2, {"a": 2}, 1)
    assert (rows["b"].free, rows["b"].reclaimable) == (3, 1)
    assert (rows["d"].lent, rows["d"].free) == (0, 6)


def test_the_ledger_shows_what_a_cut_left_uncovered() -> None:
    world = World([quota("a", 1), quota("b", 1)], cohorts={"a": "all", "b": "all", "gone": "all"})
    world.run("a1", "a", 4)
    world.run("g1", "gone", 1)
    rows = {row.project: row for row in ledger(world.snapshot)}
    assert (rows["a"].borrowed, rows["a"].borrowed_from, rows["a"].unbacked) == (3, {"b": 1}, 2)
    assert (rows["gone"].nominal, rows["gone"].unbacked, rows["gone"].free) == (0, 1, 0)


def problems(world: World) -> list[tuple[str, str, str | None]]:
    return [(each.code, each.severity, each.project) for each in check_quotas(world.snapshot)]


def test_quotas_that_add_up_raise_no_problem() -> None:
    assert problems(World([quota("a", 4, borrow=1, lend=4), quota("b", 4)], capacity=8)) == []


def test_problems_of_quotas_errors_first() -> None:
    quotas = [quota("a", 4, lend=5), quota("b", 8, borrow=1), quota("a", 1, pool="h100")]
    found = problems(World(quotas, capacity=8, cohorts={"a": "all"}))
    assert found == [
        ("lending_limit_above_nominal", "error", "a"),
        ("limits_without_cohort", "error", "b"),
        ("unknown_pool", "error", "a"),
        ("overcommitted", "warning", None),
    ]


def test_gpus_that_belong_to_nobody_are_pointed_out() -> None:
    (problem,) = check_quotas(World([quota("a", 3)], capacity=8).snapshot)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.severity) == ("unassigned_capacity", "warning")
    assert "5 can never be used" in problem.message
