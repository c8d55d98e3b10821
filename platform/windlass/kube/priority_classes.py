"""Maps a job's priority to one of the WorkloadPriorityClasses that the chart installs (docs/adr/0014)."""

from bisect import bisect_right
from typing import Final

PRIORITY_CLASS_VALUES: Final = (-1000, -100, -10, -1, 0, 1, 10, 100, 1000)
"""The values of the classes: the whole range of priorities, in orders of magnitude."""


def priority_class_name(priority: int) -> str:
    """Return the class of a priority: the highest that does not exceed it, so rounding never exceeds a ceiling."""
    return class_name_for_value(priority_class_value(priority))


def priority_class_value(priority: int) -> int:
    """Return the value of a priority's class, by which Kueue orders the job."""
    return PRIORITY_CLASS_VALUES[max(0, bisect_right(PRIORITY_CLASS_VALUES, priority) - 1)]


def class_name_for_value(value: int) -> str:
    """Return the name of the class with this value."""
    return f"windlass-minus-{-value}" if value < 0 else f"windlass-{value}"
