"""Statements that SQLAlchemy has per dialect."""

from collections.abc import Callable
from functools import cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

_INSERTS: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert_or_update(dialect: str, table: Table) -> Any:
    """Return an INSERT statement with ``on_conflict_do_update`` and ``on_conflict_do_nothing``.

    Use RETURNING to learn what it did: its ``rowcount`` is -1 with psycopg. In a serializable transaction of PostgreSQL
    it fails with a serialization failure for a row of a concurrent transaction, which the snapshot does not contain.
    """
    return _INSERTS[dialect](table)


@cache
def insert_unless_stored(dialect: str, table: Table) -> Any:
    """Return an INSERT that returns the last key of the row, or no row if its key is taken."""
    key = list(table.primary_key.columns)[-1]
    return insert_or_update(dialect, table).on_conflict_do_nothing().returning(key)
