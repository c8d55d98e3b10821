"""Records: events, metrics, log chunks, checkpoints, lineage, outbox intents, idempotency."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from windlass.domain.artifacts import Manifest
from windlass.domain.jobs import DomainModel


class Event(DomainModel):
    """A typed event of a job; ``sequence`` counts from 1 without gaps."""

    project: str
    job: str
    sequence: int
    time: datetime
    code: str
    message: str
    context: dict[str, Any] = Field(default_factory=dict)
    attempt: int | None = None


class MetricSample(DomainModel):
    """One point of a numeric series of a job."""

    job: str
    name: str
    step: int
    attempt: int
    value: float


class StoredLogChunk(DomainModel):
    """Bytes ``start`` to ``end`` of a job's log, stored in the object ``key`` from byte ``position``."""

    project: str
    job: str
    start: int
    end: int
    source: str
    attempt: int
    key: str
    position: int
    time: datetime


class Checkpoint(DomainModel):
    """A committed checkpoint of a job."""

    project: str
    job: str
    attempt: int
    step: int
    manifest: Manifest
    metrics: dict[str, float] = Field(default_factory=dict)
    created_at: datetime


class LineageEdge(DomainModel):
    """``subject`` was created from ``object``; both are ``kind:id``."""

    project: str
    subject: str
    relation: str
    object: str


class DescendantEffect(StrEnum):
    """What a cascading deletion does with an object that descends from the deleted one."""

    DELETED = "deleted"
    BLOCKS = "blocks"
    STAYS = "stays"


class Descendant(DomainModel):
    """An object that was created from a deleted one, or stays beside it."""

    kind: str
    id: str
    name: str
    effect: DescendantEffect
    why: str = ""
    """Why it blocks the deletion or stays."""


class Deletion(DomainModel):
    """What a deletion removes, or with a dry run would remove."""

    kind: str
    """Kind of the object, such as ``dataset version``."""
    id: str
    name: str
    contains: dict[str, int] = Field(default_factory=dict)
    """Number of the objects that are deleted with it, by kind."""
    stored_bytes: int = 0
    """Bytes of the files that are deleted."""
    consequences: tuple[str, ...] = ()
    """What else changes, as sentences without a full stop."""
    descendants: tuple[Descendant, ...] = ()
    """What was created from it, in the order of a cascading deletion; empty unless that was asked for."""

    @property
    def blockers(self) -> tuple[Descendant, ...]:
        """The descendants that prevent a cascading deletion."""
        return tuple(each for each in self.descendants if each.effect is DescendantEffect.BLOCKS)


class CascadeDeletion(DomainModel):
    """An accepted deletion of an object with its descendants, until all are deleted."""

    id: str
    project: str
    kind: str
    """Kind of the object, as of ``Deletion``."""
    subject: str
    """Id of the object."""
    name: str
    problem: str = ""
    """Why it does not go on; empty: it waits for endpoints to stop."""
    created_by: str
    request_id: str
    created_at: datetime
    version: int = 1


class Intent(DomainModel):
    """A row of the outbox: the action ``kind`` on ``subject`` is due.

    ``holder``: the worker that has leased it. Each lease increments ``tries`` and ``fence``, each renewal of a lease
    increments ``renewals``. Each put of the same intent increments ``generation``.
    """

    id: int
    kind: str
    project: str
    subject: str
    tries: int
    fence: int
    generation: int = 0
    holder: str | None = None
    renewals: int = 0


class Tombstone(DomainModel):
    """A deleted project, or a deleted job of one: its rows and files are still being removed."""

    project: str
    job: str | None = None


class IdempotencyRecord(DomainModel):
    """An idempotency key and the object that its first request created."""

    project: str
    route: str
    key: str
    body_hash: str
    subject: str
    created_at: datetime
