"""The tables of the cluster sync and of quota changes."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Integer
from sqlmodel import Field, SQLModel

from windlass.db.columns import instant, json_value, key


class QuotaChangeTable(SQLModel, table=True):
    __tablename__ = "quota_change"
    # SQLite reuses the number of a deleted last row without autoincrement
    __table_args__ = {"sqlite_autoincrement": True}
    sequence: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True, autoincrement=True))
    id: str = Field(unique=True)
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    name: str
    pool: str
    spec: dict[str, Any] | None = json_value(null=True)
    state: str = Field(index=True)
    problem: str
    created_by: str
    created_at: datetime = instant()
    ended_at: datetime | None = instant(null=True, index=True)
    version: int


class ClusterSyncStatusTable(SQLModel, table=True):
    __tablename__ = "cluster_sync_status"
    name: str = key()
    holder: str
    synced_at: datetime | None = instant(null=True)
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


class DemandTable(SQLModel, table=True):
    __tablename__ = "demand"
    job: str = key()
    project: str
    pool: str
    gpus: int
    priority: int
    queued_at: datetime = instant()
    admitted_at: datetime | None = instant(null=True)
    terminating: bool
    tiebreak: str
    reason: dict[str, Any] | None = json_value(null=True)
