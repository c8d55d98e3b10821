"""The sizes of a benchmark run."""

from dataclasses import dataclass

POOL = "bench"
PROJECTS_PER_COHORT = 10
"""Projects per cohort; they lend each other quota and are reconciled together."""
NOMINAL = 4
"""GPUs of each project: more than its workloads request, so that none waits for another."""


@dataclass(frozen=True)
class Sizes:
    """The parameters of one run."""

    projects: int = 1000
    workloads: int = 2000
    """Admitted with Windlass, and the same number without it."""
    rates: tuple[int, ...] = (10, 25, 50, 100)
    """Changes per second."""
    seconds: float = 10.0
    """The duration of each rate."""

    @property
    def names(self) -> list[str]:
        return [f"bench-{number:04}" for number in range(self.projects)]
