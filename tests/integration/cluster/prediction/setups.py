"""Random set-ups: pools, quotas in cohorts, and jobs that come and end in rounds. The same seed makes the same ones."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from windlass.kube.resources import GPUPool, Project, ProjectQuota

ROUNDS = 10
_FILL = 3
"""Rounds at the beginning in which jobs only come, so that there is something to preempt."""
_COHORTS = {"a": "x", "b": "x", "c": "x", "d": "x", "e": "y", "f": "y", "g": None}
"""Projects and their cohort. Every set-up has quotas for some of them, in a pool of its own: pools do not influence
each other, and a namespace takes the cluster long to delete."""
_PREFIX = "foreseen"
_NODES = ("a100", "h100")
TAINTS = ("nvidia.com/gpu", "present"), ("kwok.x-k8s.io/node", "fake")


@dataclass(frozen=True)
class Step:
    """What happens in one round: a job comes, or, where ``gpus`` is 0, the ``chosen``-th one goes, running or not.

    With ``quota`` neither: the project's quota becomes that.
    """

    project: str
    gpus: int = 0
    priority: int = 0
    chosen: int = 0
    quota: ProjectQuota | None = None

    def __str__(self) -> str:
        if self.quota is not None:
            return f"{self.project}={_words(self.quota)}"
        return f"{self.project} +{self.gpus}@{self.priority}" if self.gpus else f"end {self.chosen}"


@dataclass(frozen=True)
class Setup:
    """One pool, who has how much of it, and what happens."""

    pool: str
    nodes: str
    quotas: tuple[tuple[str, ProjectQuota], ...]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        shares = ", ".join(f"{project}={_words(quota)}" for project, quota in self.quotas)
        return f"{self.pool}: {shares}; {', '.join(map(str, self.steps))}"


def _words(quota: ProjectQuota) -> str:
    limits = {"borrow": quota.borrowing_limit, "lend": quota.lending_limit}
    return "/".join([str(quota.nominal), *(f"{name} {limit}" for name, limit in limits.items() if limit is not None)])


@dataclass(frozen=True)
class Group:
    """Set-ups that live in the cluster at the same time."""

    setups: tuple[Setup, ...]

    @property
    def pools(self) -> dict[str, GPUPool]:
        taints = [{"key": key, "value": value} for key, value in TAINTS]
        return {
            setup.pool: GPUPool.model_validate(
                {
                    "metadata": {"name": setup.pool},
                    "spec": {"nodeLabels": {"windlass.dev/pool": setup.nodes}, "taints": taints},
                }
            )
            for setup in self.setups
        }

    @property
    def projects(self) -> Iterator[Project]:
        for letter, cohort in _COHORTS.items():
            name = f"{_PREFIX}-{letter}"
            quotas = [quota for setup in self.setups for project, quota in setup.quotas if project == name]
            spec = {"cohort": f"{_PREFIX}-{cohort}" if cohort else None, "quotas": quotas}
            yield Project.model_validate({"metadata": {"name": name, "uid": name}, "spec": spec})


def groups(name: str, seed: int, sizes: list[int]) -> tuple[Group, ...]:
    """Draw a group of each size. A project has at most 64 quotas, so has a group set-ups."""
    chance = random.Random(seed)
    return tuple(
        Group(tuple(_setup(chance, f"{name}{number}-{index}") for index in range(size)))
        for number, size in enumerate(sizes)
    )


def _setup(chance: random.Random, pool: str) -> Setup:
    letters = chance.choice(["ab", "abc", "abc", "abcd", "abe", "aef", "ag", "abg", "g"])
    quotas = tuple((f"{_PREFIX}-{letter}", _quota(chance, pool, _COHORTS[letter])) for letter in letters)
    projects = [project for project, _ in quotas]
    steps = [_submit(chance, projects) for _ in range(_FILL)]
    steps += [_step(chance, pool, projects) for _ in range(ROUNDS - _FILL)]
    return Setup(pool, chance.choice(_NODES), quotas, tuple(steps))


def _step(chance: random.Random, pool: str, projects: list[str]) -> Step:
    drawn = chance.random()
    if drawn < 0.1:
        project = chance.choice(projects)
        return Step(project, quota=_quota(chance, pool, _COHORTS[project.removeprefix(f"{_PREFIX}-")]))
    if drawn < 0.35:
        return Step(chance.choice(projects), chosen=chance.randrange(1000))
    return _submit(chance, projects)


def _quota(chance: random.Random, pool: str, cohort: str | None) -> ProjectQuota:
    nominal = chance.choice([0, 1, 2, 3, 4, 4, 5, 6])
    borrowing = chance.choice([None, None, None, 0, 1, 2, 3, 4]) if cohort else None
    lending = chance.choice([None, None, None, chance.randint(0, nominal)]) if cohort else None
    return ProjectQuota(pool=pool, nominal=nominal, borrowing_limit=borrowing, lending_limit=lending)


def _submit(chance: random.Random, projects: list[str]) -> Step:
    gpus = chance.choice([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5])
    return Step(chance.choice(projects), gpus, chance.choice([0, 0, 1, 1, 2]))
