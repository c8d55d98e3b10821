"""Reasons, simulations with their smallest change, the ledger, and quota problems."""

from dataclasses import replace

import pytest
from tests.unit.quota.scenarios import POOL, Scenario, quota

from windlass.domain.jobs import ActionOwner, Reason
from windlass.domain.quota import (
    PoolState,
    QueueDecision,
    Quota,
    QuotaCode,
    QuotaProblem,
    Suggestion,
    check_quotas,
    ledger,
    schedule,
    simulate,
)
from windlass.domain.quota.queue_decisions import ordinal


def reason_of(scenario: Scenario, job: str) -> Reason:
    return schedule(scenario.snapshot).waiting[job].reason


def test_a_waiting_reason_has_position_and_free_gpus() -> None:
    scenario = Scenario([quota("a", 8)])
    scenario.run("r", "a", 6)
    for job in ("q1", "q2", "q3"):
        scenario.submit(job, "a", 4)
    reason = reason_of(scenario, "q3")
    assert reason.code == "waiting_for_quota"
    assert reason.message == "3rd in queue; needs 4 GPUs of pool a100, 2 are free"
    assert reason.action_by is ActionOwner.NONE
    assert reason.context == {"pool": POOL, "needed": 4, "free": 2, "position": 3, "ahead": "q1"}


@pytest.mark.parametrize(
    ("running", "needed", "action"),
    [(6, 4, "Wait, or ask for 2"), (7, 4, "Wait, or ask for 1"), (8, 4, "Wait"), (8, 1, "Wait")],
)
def test_asking_for_less_is_advised_where_it_helps(running: int, needed: int, action: str) -> None:
    scenario = Scenario([quota("a", 8)])
    scenario.run("r", "a", running)
    scenario.submit("first", "a", needed)
    scenario.submit("second", "a", needed)
    assert reason_of(scenario, "first").action == action
    assert reason_of(scenario, "second").action == "Wait", "the first job starts before it"


def test_messages_of_a_cpu_pool_count_cpu_slots() -> None:
    scenario = Scenario([quota("a", 2)], pools=(PoolState(name="local", capacity=2, unit="CPU slot"),))
    scenario.quotas = [quota("a", 2, pool="local")]
    scenario.submit("r", "a", 1, pool="local")
    scenario.step()
    scenario.submit("q", "a", 2, pool="local")
    assert reason_of(scenario, "q").message == "1st in queue; needs 2 CPU slots of pool local, 1 is free"


def test_a_blocked_job_that_would_fit_names_the_job_ahead() -> None:
    scenario = Scenario([quota("a", 4)])
    scenario.run("r", "a", 2)
    scenario.submit("big", "a", 4)
    scenario.submit("small", "a", 1)
    message = reason_of(scenario, "small").message
    assert message.startswith("2nd in queue; needs 1 GPU of pool a100, 2 are free, but jobs start in order")
    assert "job big" in message


def test_a_job_behind_an_impossible_job_suggests_to_cancel_that_job() -> None:
    scenario = Scenario([quota("a", 4)])
    scenario.submit("huge", "a", 5)
    scenario.submit("small", "a", 1)
    reason = reason_of(scenario, "small")
    assert (reason.code, reason.action_by) == ("behind_head_of_queue", ActionOwner.USER)
    assert "huge" in reason.action


def test_a_job_that_fits_waits_for_the_head_of_its_queue_and_one_that_does_not_for_quota() -> None:
    scenario = Scenario([quota("a", 8)])
    scenario.run("r", "a", 4)
    scenario.submit("head", "a", 8)
    scenario.submit("fits", "a", 4)
    scenario.submit("too-large", "a", 5)
    assert reason_of(scenario, "fits").code == "behind_head_of_queue"
    assert reason_of(scenario, "too-large").code == "waiting_for_quota"


@pytest.mark.parametrize(
    ("cohorts", "awaited"),
    [({"a": "x", "b": "x", "c": "y"}, ("b-stops",)), ({}, ("a-stops",)), ({"b": "x"}, ("a-stops",))],
)
def test_a_head_waits_for_the_terminating_jobs_of_its_cohort(
    cohorts: dict[str, str | None], awaited: tuple[str, ...]
) -> None:
    scenario = Scenario([quota("a", 1), quota("b", 1), quota("c", 1)], cohorts=cohorts)
    if "a" in cohorts:
        scenario.run("b-runs", "b")
    else:
        scenario.run("a-stops", "a")
    scenario.run("b-stops", "b")
    scenario.run("c-stops", "c")
    for job in scenario.running - {"b-runs"}:
        scenario.demands[job] = scenario.demands[job].model_copy(update={"terminating": True})
    scenario.submit("mine", "a")
    assert schedule(scenario.snapshot).waiting["mine"].terminating == awaited


def test_a_reason_names_no_job_of_another_project() -> None:
    scenario = Scenario([quota("a", 1), quota("b", 1)])
    scenario.run("a1", "a")
    scenario.run("secret", "a")
    scenario.submit("mine", "b")
    reason = reason_of(scenario, "mine")
    assert reason.message == "1st in queue; needs 1 GPU of pool a100 and waits for 1 job to stop"
    assert reason.context["terminating"] == 1
    assert "secret" not in reason.model_dump_json()


def test_a_job_above_the_maximum_quota_gets_both_suggestions() -> None:
    scenario = Scenario([quota("a", 4, borrow=4), quota("b", 20)])
    scenario.submit("j", "a", 16)
    reason = reason_of(scenario, "j")
    assert reason.message == "Can never start: needs 16 GPUs of pool a100, the project's quota allows at most 8"
    assert reason.action == "Reduce the job from 16 to 8, or raise the project's borrowing limit from 4 to 12"
    assert [each["kind"] for each in reason.context["suggestions"]] == ["reduce_gpus", "raise_borrowing_limit"]


PERMANENT_CASES = [
    (QuotaCode.EXCEEDS_MAX_QUOTA, "j", "a", 6, ["reduce_gpus to 4", "raise_nominal to 6"]),
    (QuotaCode.EXCEEDS_POOL_CAPACITY, "j", "a", 11, ["reduce_gpus to 4"]),
    (QuotaCode.EXCEEDS_JOB_LIMIT, "j", "wide", 9, ["reduce_gpus to 8", "raise_job_limit to 9"]),
    (QuotaCode.NO_QUOTA_IN_POOL, "j", "stranger", 3, ["raise_nominal to 3"]),
]


@pytest.mark.parametrize(
    ("code", "job", "project", "gpus", "changes"), PERMANENT_CASES, ids=[row[0].value for row in PERMANENT_CASES]
)
def test_a_job_that_can_never_start_gets_the_smallest_change(
    code: QuotaCode, job: str, project: str, gpus: int, changes: list[str]
) -> None:
    pool = PoolState(name=POOL, capacity=10, max_gpus_per_job=8)
    scenario = Scenario([quota("a", 4), quota("wide", 20)], cohorts={}, pools=(pool,))
    demand = scenario.submit(job, project, gpus)
    simulation = simulate(scenario.snapshot, demand)
    assert simulation.verdict == "never"
    assert simulation.reason is not None
    assert simulation.reason.code == code.value
    assert [f"{each.kind} to {each.to}" for each in simulation.smallest_change] == changes


@pytest.mark.parametrize(
    ("quotas", "limits", "gpus", "changes"),
    [
        ([], {"capacity": 8, "max_gpus_per_job": 8}, 8, ["raise_nominal by 8 to 8"]),
        ([], {"capacity": 8}, 9, []),
        ([quota("a", 0)], {}, 3, ["raise_nominal by 3 to 3"]),
        ([quota("a", 1)], {}, 3, ["reduce_gpus by 2 to 1", "raise_nominal by 2 to 3"]),
        ([quota("a", 9)], {"max_gpus_per_job": 8}, 9, ["reduce_gpus by 1 to 8", "raise_job_limit by 1 to 9"]),
        ([quota("a", 8)], {"max_gpus_per_job": 8}, 9, ["reduce_gpus by 1 to 8"]),
        (
            [quota("a", 4, borrow=0), quota("b", 4)],
            {},
            8,
            ["reduce_gpus by 4 to 4", "raise_borrowing_limit by 4 to 4"],
        ),
    ],
)
def test_the_smallest_change_at_the_edge_of_each_limit(
    quotas: list[Quota], limits: dict[str, int], gpus: int, changes: list[str]
) -> None:
    scenario = Scenario(quotas, pools=(PoolState.model_validate({"name": POOL, "capacity": None} | limits),))
    scenario.submit("j", "a", gpus)
    suggestions = schedule(scenario.snapshot).waiting["j"].suggestions
    assert [f"{each.kind} by {each.by} to {each.to}" for each in suggestions] == changes


def test_a_simulation_with_an_unknown_pool_never_starts() -> None:
    scenario = Scenario([quota("a", 4)])
    demand = scenario.submit("j", "a", 1, pool="h100")
    simulation = simulate(scenario.snapshot, demand)
    assert simulation.verdict == "never"
    assert simulation.reason is not None
    assert simulation.reason.message == "Can never start: there is no pool h100"


def test_a_waiting_simulation_suggests_changes_that_start_it_now() -> None:
    scenario = Scenario([quota("a", 4, borrow=1), quota("b", 4)])
    scenario.run("r", "a", 3)
    simulation = simulate(scenario.snapshot, scenario.submit("j", "a", 4))
    assert (simulation.verdict, simulation.position) == ("waits", 1)
    assert simulation.smallest_change == (
        Suggestion(kind="reduce_gpus", by=2, to=2),
        Suggestion(kind="raise_borrowing_limit", by=2, to=3),
    )


def test_a_waiting_simulation_suggests_more_quota_where_the_pool_has_free_gpus() -> None:
    scenario = Scenario([quota("a", 2), quota("b", 2)], capacity=8)
    scenario.run("r", "a", 2)
    scenario.run("other", "b", 1)
    simulation = simulate(scenario.snapshot, scenario.submit("j", "a", 2))
    assert simulation.verdict == "waits"
    assert simulation.smallest_change == (
        Suggestion(kind="reduce_gpus", by=1, to=1),
        Suggestion(kind="raise_nominal", by=1, to=3),
    )


def test_a_borrowing_limit_that_is_not_the_only_obstacle_is_not_suggested() -> None:
    scenario = Scenario([quota("a", 1, borrow=1), quota("b", 7)], capacity=8)
    scenario.run("r", "a", 1)
    scenario.run("other", "b", 7)
    simulation = simulate(scenario.snapshot, scenario.submit("j", "a", 2))
    assert (simulation.verdict, simulation.smallest_change) == ("waits", ())


def test_a_borrowing_limit_of_0_is_raised_by_what_the_job_lacks() -> None:
    scenario = Scenario([quota("a", 2, borrow=0), quota("b", 2)])
    scenario.run("r", "a", 2)
    simulation = simulate(scenario.snapshot, scenario.submit("j", "a", 2))
    assert simulation.smallest_change == (Suggestion(kind="raise_borrowing_limit", by=2, to=2),)


def test_a_job_that_waits_for_its_victims_is_not_told_to_borrow() -> None:
    """A higher borrowing limit would start it beside its victim; but its project is entitled to the GPUs."""
    scenario = Scenario([quota("a", 2, borrow=0), quota("b", 2)])
    scenario.run("low", "a", 2)
    simulation = simulate(scenario.snapshot, scenario.submit("j", "a", 2, priority=1))
    assert simulation.would_preempt == ("low",)
    assert [each.kind for each in simulation.smallest_change] == ["raise_nominal"]


def test_more_nominal_quota_is_suggested_where_a_higher_borrowing_limit_does_not_help() -> None:
    """The GPU that is free is reserved for ``owner``, which waits for its victim; borrowers come later."""
    scenario = Scenario([quota("a", 3), quota("b", 0), quota("c", 1, borrow=0)])
    scenario.run("victim", "b", 2)
    scenario.run("mine", "c", 1)
    scenario.submit("owner", "a", 3)
    demand = scenario.submit("j", "c", 1)
    simulation = simulate(scenario.snapshot, demand)
    assert simulation.reason is not None
    assert simulation.reason.code == "borrowing_limit_reached"
    assert [each.kind for each in simulation.smallest_change] == ["raise_nominal"]
    scenario.quotas[2] = quota("c", 1, borrow=9)
    assert simulate(scenario.snapshot, demand).verdict != "starts"


def test_a_project_that_uses_more_than_its_quota_is_suggested_the_quota_for_all_its_jobs() -> None:
    scenario = Scenario([quota("a", 1)], cohorts={})
    scenario.run("r", "a", 4)
    simulation = simulate(scenario.snapshot, scenario.submit("j", "a", 1))
    assert simulation.smallest_change == (Suggestion(kind="raise_nominal", by=4, to=5),)


def test_a_full_pool_suggests_no_quota_change() -> None:
    scenario = Scenario([quota("a", 4), quota("b", 4)], capacity=4)
    scenario.run("r", "b", 4)
    simulation = simulate(scenario.snapshot, scenario.submit("j", "a", 4))
    assert (simulation.verdict, simulation.smallest_change) == ("waits", ())


def test_a_simulation_names_its_victims_and_changes_nothing() -> None:
    scenario = Scenario([quota("a", 1), quota("b", 1)])
    scenario.run("a1", "a")
    scenario.run("a2", "a")
    demand = scenario.submit("mine", "b")
    scenario.finish("mine")
    before = scenario.snapshot
    simulation = simulate(before, demand)
    assert (simulation.verdict, simulation.would_preempt) == ("waits", ("a2",))
    assert before == scenario.snapshot


def test_a_running_job_is_simulated_as_if_it_were_submitted_now() -> None:
    scenario = Scenario([quota("a", 2)])
    scenario.run("r", "a", 2)
    scenario.run("other", "a", 1)
    assert simulate(scenario.snapshot, scenario.demands["r"]).verdict == "waits"


def test_the_ledger_splits_loans_by_largest_remainder() -> None:
    scenario = Scenario([quota("a", 0), quota("b", 5), quota("c", 3), quota("d", 2)])
    scenario.run("a1", "a", 7)
    rows = {row.project: row for row in ledger(scenario.snapshot)}
    assert rows["a"].borrowed_from == {"b": 4, "c": 2, "d": 1}


@pytest.mark.parametrize("code", list(QuotaCode))
def test_every_code_has_a_message(code: QuotaCode) -> None:
    reason = QueueDecision(code, "a100", 4, free=0, position=1, limit=2, ahead="job_x", terminating=("job_y",)).reason
    assert reason.code == code.value
    assert "a100" in reason.message or code is QuotaCode.BEHIND_HEAD_OF_QUEUE
    assert "None" not in reason.message


@pytest.mark.parametrize("code", [*QuotaCode])
def test_a_reason_without_a_known_position_names_none(code: QuotaCode) -> None:
    decision = QueueDecision(code, "a100", 4, limit=2, terminating=("job_y",))
    assert "in queue" not in decision.reason.message
    placed = replace(decision, position=3).reason.message
    assert placed.startswith("3rd in queue; ") == (placed != decision.reason.message)


def test_a_suggestion_names_the_present_and_the_new_value() -> None:
    texts = {
        "reduce_gpus": "reduce the job from 6 to 4",
        "raise_nominal": "raise the project's nominal quota from 2 to 4",
        "raise_borrowing_limit": "raise the project's borrowing limit from 2 to 4",
        "raise_job_limit": "raise the pool's limit per job from 2 to 4",
    }
    for kind, text in texts.items():
        assert Suggestion.model_validate({"kind": kind, "by": 2, "to": 4}).text == text


def test_ordinals() -> None:
    numbers = [1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111, 112]
    ordinals = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th", "112th"]
    assert [ordinal(number) for number in numbers] == ordinals


def test_the_ledger_attributes_loans_to_lenders() -> None:
    scenario = Scenario([quota("a", 2), quota("b", 4), quota("c", 2), quota("d", 3, lend=0)])
    scenario.run("a1", "a", 5)
    scenario.submit("b-later", "b", 3)
    rows = {row.project: row for row in ledger(scenario.snapshot)}
    assert (rows["a"].borrowed, rows["a"].borrowed_from) == (3, {"b": 2, "c": 1})
    assert (rows["b"].lent, rows["b"].lent_to, rows["b"].pending) == (2, {"a": 2}, 1)
    assert (rows["b"].free, rows["b"].reclaimable) == (3, 1)
    assert (rows["d"].lent, rows["d"].free) == (0, 6)


def test_a_lender_reclaims_nothing_while_the_cohort_has_as_much_free() -> None:
    scenario = Scenario([quota("a", 0), quota("b", 4), quota("c", 4)])
    scenario.run("a1", "a", 3)
    scenario.run("b1", "b", 2)
    rows = {row.project: row for row in ledger(scenario.snapshot)}
    assert (rows["b"].lent, rows["b"].free, rows["b"].reclaimable) == (1, 3, 0)


def test_the_ledger_shows_overcommitted_usage_after_a_cut() -> None:
    scenario = Scenario([quota("a", 1), quota("b", 1)], cohorts={"a": "all", "b": "all", "gone": "all"})
    scenario.run("a1", "a", 4)
    scenario.run("g1", "gone", 1)
    rows = {row.project: row for row in ledger(scenario.snapshot)}
    assert (rows["a"].borrowed, rows["a"].borrowed_from, rows["a"].overcommitted) == (3, {"b": 1}, 2)
    assert (rows["gone"].nominal, rows["gone"].overcommitted, rows["gone"].free) == (0, 1, 0)


def problems(scenario: Scenario) -> list[tuple[str, str, str | None]]:
    return [(each.code, each.severity, each.project) for each in check_quotas(scenario.snapshot)]


def test_quotas_that_add_up_raise_no_problem() -> None:
    assert problems(Scenario([quota("a", 4, borrow=1, lend=4), quota("b", 4)], capacity=8)) == []


def test_only_a_limit_needs_a_cohort() -> None:
    quotas = [quota("plain", 4), quota("lends", 2, lend=1), quota("borrows", 2, borrow=1)]
    found = problems(Scenario(quotas, capacity=8, cohorts={each.project: None for each in quotas}))
    assert found == [("limits_without_cohort", "error", "lends"), ("limits_without_cohort", "error", "borrows")]


def test_quota_problems_are_sorted_errors_first() -> None:
    quotas = [quota("a", 4, lend=5), quota("b", 8, borrow=1), quota("a", 1, pool="h100")]
    found = problems(Scenario(quotas, capacity=8, cohorts={"a": "all"}))
    assert found == [
        ("lending_limit_above_nominal", "error", "a"),
        ("limits_without_cohort", "error", "b"),
        ("unknown_pool", "error", "a"),
        ("overcommitted", "warning", None),
    ]


def test_unassigned_capacity_is_reported() -> None:
    (problem,) = check_quotas(Scenario([quota("a", 3)], capacity=8).snapshot)
    assert isinstance(problem, QuotaProblem)
    assert (problem.code, problem.severity) == ("unassigned_capacity", "warning")
    assert "5 can never be used" in problem.message
