"""Base models, registered models and their versions; the gates that decide whether a version is a candidate."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from windlass.domain.artifacts import Manifest
from windlass.domain.jobs import Fact, Owner, Reason
from windlass.domain.specs import Gate, Task


class BaseModelState(StrEnum):
    """Where a catalogue entry stands."""

    IMPORTING = "importing"
    READY = "ready"
    FAILED = "failed"


class ImportedModel(Fact):
    """What the check of a base model's folder found."""

    tasks: tuple[Task, ...]
    parameters: int


class CatalogueModel(Fact):
    """A model that jobs may start from."""

    id: str
    name: str
    tasks: tuple[Task, ...] = ()
    licence: str = "unknown"
    source: str = ""
    parameters: int | None = None
    bytes: int = 0
    digest: str | None = None
    path: str
    prefix: str
    state: BaseModelState
    problem: str = ""
    created_at: datetime
    version: int = 1


class Decision(StrEnum):
    """Whether a version passed its gates."""

    CANDIDATE = "candidate"
    REJECTED = "rejected"


class Model(Fact):
    """A registered name; its aliases point at candidate versions by number."""

    id: str
    project: str
    name: str
    task: Task
    description: str = ""
    aliases: dict[str, int] = Field(default_factory=dict)
    last_number: int = 0
    created_at: datetime
    version: int = 1


class ModelVersion(Fact):
    """An immutable registered result."""

    id: str
    project: str
    model: str
    number: int
    decision: Decision
    reason: Reason | None = None
    evaluation: dict[str, Any]
    job: str
    attempt: int
    dataset_version: str
    base_model: str
    prefix: str
    manifest: Manifest
    created_at: datetime


def failed_gates(gates: Iterable[Gate], evaluation: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every gate that does not hold; a metric that is absent or not a number fails."""
    problems = []
    for gate in gates:
        value = evaluation.get(gate.metric)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            problems.append(f"{gate}: the evaluation has no number {gate.metric}")
        elif not gate.holds(value):
            problems.append(f"{gate}: it is {value:.4g}")
    return problems


def judge(gates: Iterable[Gate], evaluation: Mapping[str, Any]) -> tuple[Decision, Reason | None]:
    """Decide whether a result becomes a candidate, with the reason when it does not."""
    problems = failed_gates(gates, evaluation)
    if not problems:
        return Decision.CANDIDATE, None
    reason = Reason(
        code="gates_failed",
        message="the evaluation gates do not hold: " + "; ".join(problems),
        owner=Owner.YOU,
        action="train on more or cleaner data, change the parameters, or lower the gate",
        facts={"failed": problems},
    )
    return Decision.REJECTED, reason
