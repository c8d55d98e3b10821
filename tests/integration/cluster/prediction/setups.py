"""Random setups: pools, quotas in cohorts, and jobs that start and end in rounds; deterministic by seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from windlass.kube.resources import GPUPool, Project, ProjectQuota

ROUNDS = 10
_FILL = 3
"""Initial rounds that only submit jobs, so that there is something to preempt."""
_COHORTS = {"a": "x", "b": "x", "c": "x", "d": "x", "e": "y", "f": "y", "g": None}
"""Projects and their cohorts. Every setup has quotas for some of them in a separate pool: pools are independent, and
deleting a namespace is slow."""
_PREFIX = "predicted"
_NODES = ("a100", "h100")
TAINTS = ("nvidia.com/gpu", "present"), ("kwok.x-k8s.io/node", "fake")


@dataclass(frozen=True)
class Step:
    """The change of one round: a job is submitted or, if ``gpus`` is 0, the ``chosen``-th job ends, running or not.

    With ``quota`` the project's quota changes instead.
    """

    project: str
    gpus: int = 0
    priority: int = 0
    chosen: int = 0
    quota: ProjectQuota | None = None

    def __str__(self) -> str:
        if self.quota is not None:
            return f"{self.project}={_text(self.quota)}"
        return f"{self.project} +{self.gpus}@{self.priority}" if self.gpus else f"end {self.chosen}"


@dataclass(frozen=True)
class Setup:
    """One pool, its quotas, and the steps."""

    pool: str
    nodes: str
    quotas: tuple[tuple[str, ProjectQuota], ...]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        shares = ", ".join(f"{project}={_text(quota)}" for project, quota in self.quotas)
        return f"{self.pool}: {shares}; {', '.join(map(str, self.steps))}"


def _text(quota: ProjectQuota) -> str:
    limits = {"borrow": quota.borrowing_limit, "lend": quota.lending_limit}
    return "/".join([str(quota.nominal), *(f"{name} {limit}" for name, limit in limits.items() if limit is not None)])


@dataclass(frozen=True)
class SetupGroup:
    """Setups that exist in the cluster at the same time."""

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


def groups(name: str, seed: int, sizes: list[int]) -> tuple[SetupGroup, ...]:
    """Generate a group of each size. A project has at most 64 quotas, so a group has at most 64 setups."""
    rng = random.Random(seed)
    return tuple(
        SetupGroup(tuple(_setup(rng, f"{name}{number}-{index}") for index in range(size)))
        for number, size in enumerate(sizes)
    )


def _setup(rng: random.Random, pool: str) -> Setup:
    letters = rng.choice(["ab", "abc", "abc", "abcd", "abe", "aef", "ag", "abg", "g"])
    quotas = tuple((f"{_PREFIX}-{letter}", _quota(rng, pool, _COHORTS[letter])) for letter in letters)
    projects = [project for project, _ in quotas]
    steps = [_submit(rng, projects) for _ in range(_FILL)]
    steps += [_step(rng, pool, projects) for _ in range(ROUNDS - _FILL)]
    return Setup(pool, rng.choice(_NODES), quotas, tuple(steps))


def _step(rng: random.Random, pool: str, projects: list[str]) -> Step:
    drawn = rng.random()
    if drawn < 0.1:
        project = rng.choice(projects)
        return Step(project, quota=_quota(rng, pool, _COHORTS[project.removeprefix(f"{_PREFIX}-")]))
    if drawn < 0.35:
        return Step(rng.choice(projects), chosen=rng.randrange(1000))
    return _submit(rng, projects)


def _quota(rng: random.Random, pool: str, cohort: str | None) -> ProjectQuota:
    nominal = rng.choice([0, 1, 2, 3, 4, 4, 5, 6])
    borrowing = rng.choice([None, None, None, 0, 1, 2, 3, 4]) if cohort else None
    lending = rng.choice([None, None, None, rng.randint(0, nominal)]) if cohort else None
    return ProjectQuota(pool=pool, nominal=nominal, borrowing_limit=borrowing, lending_limit=lending)


def _submit(rng: random.Random, projects: list[str]) -> Step:
    gpus = rng.choice([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5])
    return Step(rng.choice(projects), gpus, rng.choice([0, 0, 1, 1, 2]))
