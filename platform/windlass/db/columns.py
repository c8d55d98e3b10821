"""Columns that the tables share."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Dialect, Index, text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field


class Instant(TypeDecorator[datetime]):
    """An aware UTC time, stored as microseconds since 1970, which sort and compare the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - interface
        """Encode."""
        if value is None:
            return None
        since = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - interface
        """Decode."""
        return (
            None
            if value is None
            else datetime.fromtimestamp(value // 1_000_000, UTC).replace(microsecond=value % 1_000_000)
        )


def instant(*, null: bool = False, index: bool = False) -> Any:
    """Declare a column of a time."""
    return Field(sa_column=Column(Instant, nullable=null, index=index))


def json_value(*, null: bool = False) -> Any:
    """Declare a column of a JSON value; None is stored as NULL, not as the JSON value null."""
    return Field(sa_column=Column(JSON(none_as_null=True), nullable=null))


def key() -> Any:
    """Declare a column of the primary key."""
    return Field(primary_key=True)


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Declare an index of the rows that match ``where``."""
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
