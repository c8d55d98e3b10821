"""What is written beside the nouns: events, metrics, log chunks, checkpoints, lineage, audit, intents."""

from datetime import datetime
from typing import Any

from pydantic import Field

from windlass.domain.artifacts import Manifest
from windlass.domain.jobs import Fact


class Event(Fact):
    """A typed fact of a job; ``sequence`` counts from 1 without a gap."""

    project: str
    job: str
    sequence: int
    time: datetime
    code: str
    message: str
    facts: dict[str, Any] = Field(default_factory=dict)
    attempt: int | None = None


class MetricPoint(Fact):
    """One point of a numeric series of a job."""

    job: str
    name: str
    step: int
    attempt: int
    value: float
    time: datetime


class LogChunk(Fact):
    """A piece of a job's log: bytes ``start`` to ``end`` of the whole, kept in the object store at ``key``."""

    project: str
    job: str
    start: int
    end: int
    source: str
    attempt: int
    key: str
    time: datetime


class Checkpoint(Fact):
    """A committed checkpoint of a job."""

    project: str
    job: str
    attempt: int
    step: int
    prefix: str
    manifest: Manifest
    metrics: dict[str, float] = Field(default_factory=dict)
    created_at: datetime


class LineageEdge(Fact):
    """``subject`` was made from ``object``; both are ``kind:id``."""

    project: str
    subject: str
    relation: str
    object: str


class AuditEntry(Fact):
    """One accepted mutation (invariant I8): who did what to which object; never values."""

    id: str
    time: datetime
    actor: str
    project: str | None
    action: str
    subject: str
    request_id: str


class Intent(Fact):
    """A row of the outbox: ``kind`` must happen to ``subject``. ``fence`` is raised by each claim."""

    id: int
    kind: str
    project: str
    subject: str
    tries: int
    fence: int


class Replay(Fact):
    """An idempotency record: this key made ``subject`` from a body with this hash."""

    project: str
    route: str
    key: str
    body_hash: str
    subject: str
    created_at: datetime
