"""Tables of data keys, cascading deletions and erasures."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from windlass.db.columns import instant, json_value, key


class DataKeyTable(SQLModel, table=True):
    __tablename__ = "data_key"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    master_key: str = Field(index=True)
    wrapped: str
    created_at: datetime = instant()
    version: int


class CascadeDeletionTable(SQLModel, table=True):
    __tablename__ = "cascade_deletion"
    __table_args__ = (UniqueConstraint("kind", "subject"),)
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    kind: str
    subject: str
    name: str
    problem: str
    created_by: str
    request_id: str
    created_at: datetime = instant()
    version: int


class ErasureTable(SQLModel, table=True):
    __tablename__ = "erasure"
    __table_args__ = (Index("ix_erasure_project_id", "project", "id"),)
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    dataset: str
    dataset_name: str
    state: str = Field(index=True)
    query: dict[str, Any] | None = json_value(null=True)
    key_hashes: list[Any] = json_value()
    versions: list[Any] = json_value()
    new_version: dict[str, Any] | None = json_value(null=True)
    descendants: list[Any] = json_value()
    checkpoints_deleted: int
    problem: str
    process_deaths: int
    created_by: str
    created_at: datetime = instant()
    confirmed_by: str | None
    confirmed_at: datetime | None = instant(null=True)
    erased_at: datetime | None = instant(null=True)
    completed_at: datetime | None = instant(null=True)
    version: int
