"""Back-off delays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kit.backoff import Backoff


def test_delays_double_up_to_the_maximum() -> None:
    backoff = Backoff(first=1.0, maximum=10.0, jitter=0.0)
    assert [backoff.delay(failures) for failures in range(7)] == [0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@given(failures=st.integers(min_value=1, max_value=10_000), jitter=st.floats(min_value=0, max_value=1))
def test_jitter_only_shortens_a_delay(failures: int, jitter: float) -> None:
    longest = Backoff(first=0.5, maximum=60.0, jitter=0.0).delay(failures)
    assert longest * (1 - jitter) <= Backoff(first=0.5, maximum=60.0, jitter=jitter).delay(failures) <= longest


def test_delays_of_clients_that_failed_together_differ() -> None:
    backoff = Backoff(first=8.0, maximum=8.0)
    assert len({backoff.delay(1) for _ in range(20)}) > 1
    assert backoff.delay(1) == pytest.approx(6.0, abs=2.0)
