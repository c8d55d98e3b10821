"""The tables of the audit log. Triggers of the migration refuse to change or delete sealed rows."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer
from sqlmodel import Field, SQLModel

from windlass.db.columns import instant, json_value, key, partial_index


class AuditTable(SQLModel, table=True):
    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_project_id", "project", "id"),
        Index("ix_audit_actor_id", "actor", "id"),
        Index("ix_audit_action_id", "action", "id"),
        Index("ix_audit_key_id", "key", "id"),
        Index("ix_audit_request_id", "request_id", "id"),
        partial_index("ix_audit_denied", "id", where="outcome = 'denied'"),
        partial_index("ix_audit_unsealed", "id", where="position IS NULL"),
        partial_index("uq_audit_position", "position", where="position IS NOT NULL", unique=True),
    )
    id: str = key()
    time: datetime = instant()  # without an index: ids are in the same order
    actor: str
    project: str | None
    action: str
    subject: str
    name: str
    request_id: str
    key: str | None
    address: str
    outcome: str
    code: str
    count: int
    changes: dict[str, Any] = json_value()
    position: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    previous_hash: str | None
    hash: str | None


class AuditChainTable(SQLModel, table=True):
    """One row: the ends of the chain."""

    __tablename__ = "audit_chain"
    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    anchor_position: int = Field(sa_type=BigInteger)
    anchor_hash: str
    position: int = Field(sa_type=BigInteger)
    hash: str
