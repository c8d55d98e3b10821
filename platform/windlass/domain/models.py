"""Base models, registered models and their versions; evaluation gates."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from windlass.domain.artifacts import FileEntry, Manifest
from windlass.domain.jobs import ActionOwner, DomainModel, Reason
from windlass.domain.reports import JobWarning
from windlass.domain.specs import Gate, Task

UNKNOWN_LICENCE = "unknown"


class BaseModelState(StrEnum):
    """The state of a base model in the catalogue."""

    UPLOADING = "uploading"
    IMPORTING = "importing"
    READY = "ready"
    FAILED = "failed"


class DeclaredFile(DomainModel):
    """A file of a base model that a client uploads: its relative path, length and hash."""

    path: str
    entry: FileEntry


class ModelSourceFile(DomainModel):
    """A file of a base model that was uploaded: its relative path, where it is staged, and what the client declared."""

    path: str
    uri: str
    entry: FileEntry


class ImportRequest(DomainModel):
    """Request to import a base model from a path on the server's disk, or from uploaded files."""

    target: str
    """URI at which the model is published."""
    path: str = ""
    """A folder, or a GGUF file; empty: the files."""
    files: tuple[ModelSourceFile, ...] = ()


class ImportedModel(DomainModel):
    """Result of an import: what was published, and what it is good for."""

    tasks: tuple[Task, ...]
    parameters: int
    max_positions: int | None = None
    """The longest input of the model in tokens; None when the architecture has no limit."""
    activations_per_token: int = 0
    """Values per token that its linear layers save for a backward pass, at least."""
    tokenizer: str = ""
    """Its tokenizer as ``ValidationReport.tokenizer`` names it."""
    bytes: int
    digest: str
    """Of the manifest."""


class CatalogueModel(DomainModel):
    """A base model for fine-tuning jobs."""

    id: str
    name: str
    tasks: tuple[Task, ...] = ()
    licence: str = UNKNOWN_LICENCE
    source: str = ""
    parameters: int | None = None
    max_positions: int | None = None
    """The longest input in tokens; None when unknown or unlimited."""
    activations_per_token: int = 0
    tokenizer: str = ""
    bytes: int = 0
    digest: str | None = None
    path: str = ""
    """On the server's disk; empty: its files are uploaded."""
    files: tuple[DeclaredFile, ...] = ()
    prefix: str
    state: BaseModelState
    problem: str = ""
    created_at: datetime
    version: int = 1

    @property
    def known_licence(self) -> str:
        """The licence, or an empty string when it is not known."""
        return "" if self.licence == UNKNOWN_LICENCE else self.licence


class Decision(StrEnum):
    """Whether a version passed its gates."""

    CANDIDATE = "candidate"
    REJECTED = "rejected"


class Model(DomainModel):
    """A registered model; its aliases point at candidate versions by number."""

    id: str
    project: str
    name: str
    task: Task
    description: str = ""
    aliases: dict[str, int] = Field(default_factory=dict)
    last_number: int = 0
    created_at: datetime
    version: int = 1


class ModelVersion(DomainModel):
    """An immutable registered result."""

    id: str
    project: str
    model: str
    number: int
    decision: Decision
    reason: Reason | None = None
    evaluation: dict[str, Any]
    warnings: tuple[JobWarning, ...] = ()
    job: str
    attempt: int
    dataset_version: str
    base_model: str
    purposes: tuple[str, ...] = ()
    """What it may be used for, by the dataset that it was trained on; empty: anything."""
    prefix: str
    manifest: Manifest
    created_at: datetime


def common_purposes(allowed: Iterable[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the purposes that all of these allow; an empty tuple allows any, None means that none is in common."""
    restricted = [set(purposes) for purposes in allowed if purposes]
    if not restricted:
        return ()
    return tuple(sorted(set.intersection(*restricted))) or None


def failed_gates(gates: Iterable[Gate], evaluation: Mapping[str, Any]) -> list[str]:
    """Return a message for every failed gate; a metric that is missing or not a number fails."""
    problems = []
    for gate in gates:
        value = evaluation.get(gate.metric)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            problems.append(f"{gate}: the evaluation has no number {gate.metric}")
        elif not gate.is_met(value):
            problems.append(f"{gate}: it is {value:.4g}")
    return problems


def evaluate_gates(gates: Iterable[Gate], evaluation: Mapping[str, Any]) -> tuple[Decision, Reason | None]:
    """Return whether a result becomes a candidate, and the reason when it does not."""
    problems = failed_gates(gates, evaluation)
    if not problems:
        return Decision.CANDIDATE, None
    reason = Reason(
        code="gates_failed",
        message="evaluation gates failed: " + "; ".join(problems),
        action_by=ActionOwner.USER,
        action="train on more or cleaner data, change the parameters, or lower the gate",
        context={"failed": problems},
    )
    return Decision.REJECTED, reason
