"""A job's priority as one of Kueue's WorkloadPriorityClasses: a short ladder that the chart ships (docs/adr/0014)."""

from bisect import bisect_right
from typing import Final

LADDER: Final = (-1000, -100, -10, -1, 0, 1, 10, 100, 1000)
"""The values of the classes: as far as a priority goes, in orders of magnitude."""


def class_of(priority: int) -> str:
    """Return the class of a priority: the highest that is not above it, so that no ceiling is passed by rounding."""
    return class_named(value_of(priority))


def value_of(priority: int) -> int:
    """Return the value of a priority's class: what Kueue orders the job by."""
    return LADDER[max(0, bisect_right(LADDER, priority) - 1)]


def class_named(value: int) -> str:
    """Return the name of the class with this value."""
    return f"windlass-minus-{-value}" if value < 0 else f"windlass-{value}"
