"""The tables of attempts, and of what is metered: GPU time, its prices, requests, and budgets.

Sums do not refer to the rows of projects: the usage of a deleted project stays in the reports of its months.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer
from sqlmodel import Field, SQLModel

from windlass.db.columns import Instant, instant, json_value, key, partial_index
from windlass.domain.endpoint_traffic import LATENCY_BOUNDS

LATENCY_COLUMNS = (*(f"within_{bound}" for bound in LATENCY_BOUNDS), "slower")
"""Requests by latency in milliseconds: longer than the bound before, and at most this one."""


class AttemptTable(SQLModel, table=True):
    __tablename__ = "attempt"
    job: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    number: int = Field(primary_key=True)
    project: str
    run: str
    trainer: str
    state: str
    acquired_at: datetime = instant()
    heartbeat_at: datetime = instant()
    heartbeats: int
    ended_at: datetime | None = instant(null=True)
    resumed_from_step: int | None
    trained_seconds: float
    phases: dict[str, Any] | None = json_value(null=True)
    kept_seconds: float
    result: dict[str, Any] | None = json_value(null=True)


class GpuReservationTable(SQLModel, table=True):
    __tablename__ = "gpu_reservation"
    __table_args__ = (
        Index("ix_gpu_reservation_project", "project"),
        partial_index("ix_gpu_reservation_held", "job", where="released_at IS NULL"),
        partial_index("ix_gpu_reservation_unsettled", "job", "holder", "reserved_at", where="settlement IS NULL"),
        partial_index("ix_gpu_reservation_unsettled_of_project", "project", where="settlement IS NULL"),
    )
    job: str = key()
    holder: str = key()
    reserved_at: datetime = Field(sa_column=Column(Instant, primary_key=True))
    project: str
    pool: str
    gpus: int
    released_at: datetime | None = instant(null=True)
    api_key: str
    model: str
    endpoint: str
    resizes: list[Any] = json_value()
    settlement: list[Any] | None = json_value(null=True)


class PoolPriceTable(SQLModel, table=True):
    __tablename__ = "pool_price"
    pool: str = key()
    valid_from: datetime = Field(sa_column=Column(Instant, primary_key=True))
    micros_per_gpu_hour: int = Field(sa_type=BigInteger)


class GpuUsageTable(SQLModel, table=True):
    __tablename__ = "gpu_usage"
    month: str = key()
    project: str = key()
    pool: str = key()
    kind: str = key()
    api_key: str = key()
    model: str = key()
    endpoint: str = key()
    parts: dict[str, Any] = json_value()
    cost: int = Field(sa_type=BigInteger)
    version: int


class RequestUsageTable(SQLModel, table=True):
    __tablename__ = "request_usage"
    project: str = key()
    hour: datetime = Field(sa_column=Column(Instant, primary_key=True, index=True))
    api_key: str = key()
    endpoint: str = key()
    model: str = key()
    number: int = Field(primary_key=True)
    instance: str = key()
    succeeded: int = Field(sa_type=BigInteger)
    rejected: int = Field(sa_type=BigInteger)
    failed: int = Field(sa_type=BigInteger)
    cancelled: int = Field(sa_type=BigInteger)
    prompt_tokens: int = Field(sa_type=BigInteger)
    completion_tokens: int = Field(sa_type=BigInteger)


class EndpointTrafficTable(SQLModel, table=True):
    __tablename__ = "endpoint_traffic"
    __table_args__ = tuple(Column(name, Integer, nullable=False) for name in LATENCY_COLUMNS)
    project: str = key()
    endpoint: str = key()
    minute: datetime = Field(sa_column=Column(Instant, primary_key=True, index=True))
    instance: str = key()
    succeeded: int
    rejected: int
    failed: int
    cancelled: int


class BudgetTable(SQLModel, table=True):
    __tablename__ = "budget"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    cost: int | None = Field(sa_type=BigInteger)
    gpu_time: int | None = Field(sa_type=BigInteger)
    changed_by: str
    changed_at: datetime | None = instant(null=True)
    version: int


class BudgetAlertTable(SQLModel, table=True):
    __tablename__ = "budget_alert"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    month: str = key()
    percent: int = Field(primary_key=True)
    reached_at: datetime = instant()
