"""Numeric series of a job's metrics, and their reduction to a number of points that a plot can show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from windlass.domain.ids import MAX_INTEGER

MIN_POINTS = 10
"""Smallest number of points that a series is reduced to."""


class StepRange(NamedTuple):
    """Training steps after one, through another one."""

    after: int = -1
    through: int = MAX_INTEGER


ALL_STEPS = StepRange()


@dataclass(frozen=True)
class MetricSeries:
    """Points of one metric in step order, possibly downsampled from ``total`` stored points."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    attempts: Sequence[int]
    total: int


def downsample(values: Sequence[float], limit: int) -> Sequence[int]:
    """Return at most ``limit`` (at least ``MIN_POINTS``) indices, ascending, that keep the shape of a series.

    The first and the last index are kept. The rest is divided into buckets of equal length; each keeps its minimum
    and its maximum, and its first value that is not finite.
    """
    if len(values) <= limit:
        return range(len(values))
    finite = math.isfinite(sum(values))
    buckets = (limit - 2) // (2 if finite else 3)
    kept = {0, len(values) - 1}
    for number in range(buckets):
        start, end = number * len(values) // buckets, (number + 1) * len(values) // buckets
        bucket = values[start:end]
        if finite:
            kept.add(start + bucket.index(min(bucket)))
            kept.add(start + bucket.index(max(bucket)))
        else:
            kept.update(start + index for index in _extremes(bucket))
    return sorted(kept)


def _extremes(bucket: Sequence[float]) -> list[int]:
    finite = [index for index, value in enumerate(bucket) if math.isfinite(value)]
    others = (index for index, value in enumerate(bucket) if not math.isfinite(value))
    kept = [min(finite, key=bucket.__getitem__), max(finite, key=bucket.__getitem__)] if finite else []
    return kept + [index for index in (next(others, None),) if index is not None]
