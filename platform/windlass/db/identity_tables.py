"""Tables of members, users, service accounts and credentials."""

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from windlass.db.columns import instant, json_value, key


class MemberTable(SQLModel, table=True):
    __tablename__ = "member"
    project: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True, index=True)
    role: str
    version: int


class ApiKeyTable(SQLModel, table=True):
    __tablename__ = "api_key"
    id: str = key()
    user: str
    name: str
    platform_role: str | None
    project: str | None = Field(foreign_key="project.id", ondelete="CASCADE", index=True)
    service_account: str | None = Field(foreign_key="service_account.id", ondelete="CASCADE", index=True)
    permissions: Any = json_value(null=True)
    secret_hash: str
    created_at: datetime = instant()
    expires_at: datetime | None = instant(null=True)
    revoked_at: datetime | None = instant(null=True)


class ServiceAccountTable(SQLModel, table=True):
    __tablename__ = "service_account"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: str = key()
    project: str = Field(foreign_key="project.id", ondelete="CASCADE")
    name: str
    role: str
    description: str
    created_at: datetime = instant()
    version: int


class UserAccountTable(SQLModel, table=True):
    __tablename__ = "user_account"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)
    name: str = Field(primary_key=True)
    issuer: str
    subject: str
    display_name: str
    groups: Any = json_value()
    created_at: datetime = instant()
    signed_in_at: datetime = instant()
    disabled_at: datetime | None = instant(null=True)
    version: int


class UserSessionTable(SQLModel, table=True):
    __tablename__ = "user_session"
    id: str = key()
    user: str = Field(index=True)
    kind: str
    api_key: str | None = Field(foreign_key="api_key.id", ondelete="CASCADE", index=True)
    secret_hash: str
    created_at: datetime = instant()
    expires_at: datetime = instant(index=True)
    ended_at: datetime | None = instant(null=True)
