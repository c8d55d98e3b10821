"""A downsampled series keeps the ends and the extremes of the original."""

import math

from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.series import MIN_POINTS, downsample

VALUES = st.lists(st.floats(), max_size=300)


@given(VALUES, st.integers(MIN_POINTS, 60))
def test_downsampling_keeps_ends_extremes_and_the_limit(values: list[float], limit: int) -> None:
    kept = list(downsample(values, limit))
    assert kept == sorted(set(kept))
    assert len(kept) <= limit
    if len(values) <= limit:
        assert kept == list(range(len(values)))
        return
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        shown = [values[index] for index in kept if math.isfinite(values[index])]
        assert (min(shown), max(shown)) == (min(finite), max(finite))
    if len(finite) < len(values):
        assert any(not math.isfinite(values[index]) for index in kept), "a diverged loss stays visible"


def test_a_single_spike_in_a_long_series_is_kept() -> None:
    values = [1.0] * 100_000
    values[61_803] = 9.0
    assert 61_803 in downsample(values, 2000)
