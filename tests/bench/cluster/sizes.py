"""How much is measured."""

from dataclasses import dataclass

POOL = "bench"
MATES = 10
"""Projects of one cohort, which lend each other quota and are looked at together."""
NOMINAL = 4
"""GPUs of each project: more than its workloads ask for, so that none waits for another one's end."""


@dataclass(frozen=True)
class Sizes:
    """The parameters of one run."""

    projects: int = 1000
    workloads: int = 2000
    """Admitted with Windlass, and as many without it."""
    rates: tuple[int, ...] = (10, 25, 50, 100)
    """Changes a second."""
    seconds: float = 10.0
    """How long each rate is kept."""

    @property
    def names(self) -> list[str]:
        return [f"bench-{number:04}" for number in range(self.projects)]
