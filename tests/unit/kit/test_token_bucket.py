"""Rates with bursts."""

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from windlass.kit.token_bucket import TokenBuckets

RATE, BURST_SECONDS, CAPACITY = 4.0, 5.0, 20
gaps = st.lists(st.floats(min_value=0, max_value=3, allow_subnormal=False), min_size=1, max_size=150)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@given(gaps)
def test_no_period_has_more_requests_than_the_burst_and_the_rate_allow(gaps: list[float]) -> None:
    clock = Clock()
    buckets, allowed = TokenBuckets(RATE, BURST_SECONDS, clock), list[float]()
    for gap in gaps:
        clock.now += gap
        if buckets.take("ann").allowed:
            allowed.append(clock.now)
    for first, start in enumerate(allowed):
        for last, end in enumerate(allowed[first:], first):
            assert last - first + 1 <= CAPACITY + (end - start) * RATE + 1e-3


@given(gaps)
def test_the_time_to_wait_suffices_and_half_of_it_does_not(gaps: list[float]) -> None:
    clock = Clock()
    buckets = TokenBuckets(RATE, BURST_SECONDS, clock)
    for gap in gaps:
        clock.now += gap / 10
        state = buckets.take("ann")
        if state.allowed:
            assert state.retry_seconds == 0
            continue
        assert state.remaining == 0
        assert 0 < state.retry_seconds <= 1 / RATE
        clock.now += state.retry_seconds / 2
        assert not buckets.take("ann").allowed
        clock.now += state.retry_seconds / 2 + 1e-6
        assert buckets.take("ann").allowed


def test_a_caller_below_the_rate_is_never_refused() -> None:
    clock = Clock()
    buckets = TokenBuckets(RATE, 0.0, clock)  # no burst: one token
    for _ in range(1000):
        assert buckets.take("ann").allowed
        clock.now += 1 / RATE


def test_the_burst_is_counted_down_and_refills() -> None:
    clock = Clock()
    buckets = TokenBuckets(RATE, BURST_SECONDS, clock)
    assert [buckets.take("ann").remaining for _ in range(CAPACITY)] == [*reversed(range(CAPACITY))]
    refused = buckets.take("ann")
    assert (refused.allowed, refused.capacity) == (False, CAPACITY)
    assert math.isclose(refused.full_seconds, BURST_SECONDS)
    assert buckets.take("ben").allowed
    clock.now += BURST_SECONDS
    assert buckets.take("ann").remaining == CAPACITY - 1


def test_memory_is_bounded_by_the_callers_of_one_burst() -> None:
    clock = Clock()
    buckets = TokenBuckets(RATE, BURST_SECONDS, clock)
    for number in range(50_000):
        buckets.take(f"{number}")
        clock.now += 0.01
    assert len(buckets) < 2500
