"""The tables of a cluster's mirror, and of changes that are on their way to the cluster."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from windlass.db.columns import instant, json_value, key


class QuotaChangeTable(SQLModel, table=True):
    __tablename__ = "quota_change"
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    name: str
    pool: str
    share: dict[str, Any] | None = json_value(null=True)
    state: str = Field(index=True)
    problem: str
    created_by: str
    created_at: datetime = instant(index=True)
    ended_at: datetime | None = instant(null=True)
    version: int


class MirroredTable(SQLModel, table=True):
    __tablename__ = "mirrored"
    name: str = key()
    holder: str
    read_at: datetime | None = instant(null=True)
    notes: list[Any] = json_value()
    version: int


class QueueQuotaTable(SQLModel, table=True):
    __tablename__ = "queue_quota"
    project: str = key()
    pool: str = key()
    nominal: int
    borrowing_limit: int | None
    lending_limit: int | None
    stopped: bool
    cohort: str | None


class ClaimTable(SQLModel, table=True):
    __tablename__ = "claim"
    job: str = key()
    project: str
    pool: str
    gpus: int
    priority: int
    queued_at: datetime = instant()
    admitted_at: datetime | None = instant(null=True)
    leaving: bool
    tiebreak: str
    reason: dict[str, Any] | None = json_value(null=True)
