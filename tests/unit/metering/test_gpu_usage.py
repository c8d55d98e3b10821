"""GPU time by month and by what it was used for: exact sums, whatever was measured."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.domain.gpu_reservations import (
    GpuReservation,
    attempts_by_reservation,
    measured_parts,
    usage_by_month,
)
from windlass.domain.jobs import Attempt, AttemptState
from windlass.domain.reports import PhaseSeconds
from windlass.domain.usage import (
    Interval,
    PoolPrice,
    Prices,
    ReservationKind,
    UsageParts,
    month_interval,
    month_of,
    split_by_month,
)
from windlass.domain.warm_trainers import new_warm_trainer_name

START = datetime(2026, 11, 30, 23, 59, 50, tzinfo=UTC)
TIMES = st.datetimes(datetime(2024, 1, 30), datetime(2027, 3, 2), timezones=st.just(UTC))  # noqa: DTZ001 - as naive bounds
SECONDS = st.floats(0, 3e6, allow_nan=False)


def reservation(start: datetime = START, end: datetime | None = None, gpus: int = 1, **more: Any) -> GpuReservation:
    return GpuReservation.model_validate(
        {
            "project": "p",
            "job": "job_1",
            "holder": "h",
            "pool": "a100",
            "gpus": gpus,
            "reserved_at": start,
            "released_at": end,
            **more,
        }
    )


def attempt(start: datetime = START, state: AttemptState = AttemptState.FINISHED, **more: Any) -> Attempt:
    return Attempt.model_validate(
        {
            "project": "p",
            "job": "job_1",
            "number": 1,
            "run": "run_1",
            "trainer": "t",
            "state": state,
            "acquired_at": start,
            "heartbeat_at": start,
            **more,
        }
    )


PHASES = st.builds(PhaseSeconds, training=SECONDS, data_wait=SECONDS, loading=SECONDS, evaluation=SECONDS)
ATTEMPTS = st.lists(
    st.builds(
        lambda state, phases, kept: attempt(state=state, phases=phases, kept_seconds=kept),
        st.sampled_from(AttemptState),
        st.none() | PHASES,
        SECONDS,
    ),
    max_size=4,
)


@settings(max_examples=150)
@given(TIMES, TIMES, st.integers(1, 64), ATTEMPTS)
def test_the_parts_of_all_months_sum_to_the_reserved_time_exactly(
    start: datetime, end: datetime, gpus: int, attempts: list[Attempt]
) -> None:
    held = reservation(start, end, gpus)
    used = usage_by_month(held, attempts, Prices([]), end)
    reserved = max(0, (end - start) // timedelta(microseconds=1)) * gpus
    assert sum(each.parts.total for each in used) == reserved
    for each in used:
        within = Interval(start, end).overlap(month_interval(each.month))
        assert each.parts.total == within.microseconds * gpus
        assert all(value >= 0 for value in each.parts.model_dump().values())
    measured = measured_parts(attempts).scaled_by(gpus)
    if measured.total <= reserved:
        totals = sum((each.parts for each in used), UsageParts())
        assert totals == measured.within(reserved)


@settings(max_examples=150)
@given(TIMES, TIMES)
def test_months_divide_an_interval_without_gap_or_overlap(start: datetime, end: datetime) -> None:
    parts = list(split_by_month(Interval(start, end)))
    assert [part.start for _, part in parts[1:]] == [part.end for _, part in parts[:-1]]
    if start < end:
        assert (parts[0][1].start, parts[-1][1].end) == (start, end)
    else:
        assert parts == []
    for month, part in parts:
        assert part.start < part.end
        assert month == month_of(part.start) == month_of(part.end - timedelta(microseconds=1))


def test_a_month_contains_its_first_moment_and_not_that_of_the_next_one() -> None:
    first = datetime(2026, 12, 1, tzinfo=UTC)
    assert month_interval("2026-12") == (first, datetime(2027, 1, 1, tzinfo=UTC))
    assert [month for month, _ in split_by_month(Interval(START, first))] == ["2026-11"]
    [november, december] = split_by_month(Interval(START, first + timedelta(microseconds=1)))
    assert (november[1].microseconds, december[1].microseconds) == (10_000_000, 1)


COUNT = len(UsageParts.model_fields)


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**9), min_size=COUNT, max_size=COUNT))
def test_what_was_measured_beyond_the_reserved_time_is_cut_off(reserved: int, values: list[int]) -> None:
    parts = UsageParts(**dict(zip(UsageParts.model_fields, values, strict=True))).within(reserved)
    assert parts.total == reserved


def test_the_steps_after_the_last_checkpoint_are_lost_unless_the_attempt_has_finished() -> None:
    phases = PhaseSeconds(training=100, data_wait=20, loading=30, evaluation=10)
    for state in AttemptState:
        parts = measured_parts([attempt(state=state, phases=phases, kept_seconds=60)])
        lost = 0 if state in (AttemptState.LIVE, AttemptState.FINISHED) else 40
        assert (parts.productive, parts.lost) == ((100 - lost) * 10**6, lost * 10**6)
        assert (parts.data_wait, parts.loading, parts.evaluation, parts.idle) == (20e6, 30e6, 10e6, 0)


def test_an_attempt_that_reported_nothing_leaves_the_time_idle() -> None:
    [used] = usage_by_month(reservation(end=START + timedelta(seconds=5)), [attempt()], Prices([]), START)
    assert used.parts == UsageParts(idle=5_000_000)


def test_an_attempt_belongs_to_the_last_reservation_that_began_before_it() -> None:
    seconds = [START + timedelta(seconds=offset) for offset in (0, 100, 200)]
    held = [reservation(begin, begin + timedelta(seconds=50), holder=f"h{n}") for n, begin in enumerate(seconds)]
    early, first, last = (attempt(START + timedelta(seconds=offset)) for offset in (-2, 100, 900))
    assigned = attempts_by_reservation(held, [early, first, last])
    assert [assigned[f"h{n}", begin] for n, begin in enumerate(seconds)] == [[early], [first], [last]]
    assert attempts_by_reservation([], [early]) == {}


def test_a_warm_trainer_is_not_a_job() -> None:
    assert reservation().kind is ReservationKind.JOB
    assert reservation(job=new_warm_trainer_name()).kind is ReservationKind.WARM_TRAINER


# ---------------------------------------------------------------- prices


def prices(*changes: tuple[int, float]) -> Prices:
    """Return the prices of a pool that change at seconds after ``START``."""
    return Prices(
        PoolPrice(
            pool="a100", valid_from=START + timedelta(seconds=second), micros_per_gpu_hour=round(price * 1_000_000)
        )
        for second, price in changes
    )


def cost(history: Prices, begin: int, end: int, gpus: int = 1) -> int:
    return history.cost("a100", Interval(START + timedelta(seconds=begin), START + timedelta(seconds=end)), gpus)


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (0, 3600, 2_000_000),
        (3600, 7200, 5_000_000),
        (1800, 5400, 1_000_000 + 2_500_000),
        (-3600, 0, 2_000_000),  # before the first known price, that one holds
        (7200, 7200, 0),
        (7200, 3600, 0),
    ],
)
def test_each_moment_costs_the_price_that_held_then(begin: int, end: int, expected: int) -> None:
    assert cost(prices((0, 2), (3600, 5)), begin, end) == expected
    assert cost(prices((0, 2), (3600, 5)), begin, end, gpus=8) == 8 * expected


def test_a_pool_without_a_price_is_free() -> None:
    assert cost(Prices([]), 0, 3600) == 0


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 1e6)), max_size=5, unique_by=lambda change: change[0]),
    st.lists(st.integers(-5000, 20_000), min_size=2, max_size=6),
    st.integers(1, 64),
)
def test_the_cost_of_adjacent_intervals_sums_to_that_of_the_whole(
    changes: list[tuple[int, float]], cuts: list[int], gpus: int
) -> None:
    history, cuts = prices(*changes), sorted(cuts)
    whole = cost(history, cuts[0], cuts[-1], gpus)
    parts = [cost(history, begin, end, gpus) for begin, end in pairwise(cuts)]
    assert abs(sum(parts) - whole) <= len(parts) + len(changes), "each price of each part is rounded to a millionth"
