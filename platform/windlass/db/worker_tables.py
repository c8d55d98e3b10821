"""The tables of the worker's queues, the outbox and the sequence of admission, and of what the API reports to it."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from windlass.db.columns import instant, json_value, key, partial_index


class AdmissionSequenceTable(SQLModel, table=True):
    __tablename__ = "admission_sequence"
    id: int = Field(primary_key=True)
    value: int


class ApiUptimeTable(SQLModel, table=True):
    __tablename__ = "api_uptime"
    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    refreshes: int = Field(sa_type=BigInteger)


class RequestLoadTable(SQLModel, table=True):
    __tablename__ = "request_load"
    instance: str = key()
    sequence: int = Field(sa_type=BigInteger)
    ongoing: dict[str, Any] = json_value()


class OutboxTable(SQLModel, table=True):
    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("kind", "subject"),
        partial_index("ix_outbox_leased", "id", where="holder IS NOT NULL"),
    )
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True, autoincrement=True))
    kind: str
    project: str
    subject: str
    put_at: datetime = instant()
    due_at: datetime | None = instant(null=True, index=True)
    tries: int
    fence: int
    generation: int
    holder: str | None = Field(index=True)
    renewals: int
