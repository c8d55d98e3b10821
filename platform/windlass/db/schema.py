"""Schema migrations with Alembic: apply, compare, generate."""

from itertools import groupby
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, text
from sqlmodel import SQLModel

from windlass.db import audit_tables, cluster_tables, identity_tables, tables, worker_tables  # noqa: F401 - importing them declares the tables

_ADVISORY_LOCK = 7_236_542_918
_MIGRATION_MINUTES = 15
_TABLE_LOCK_SECONDS = 10


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Apply the missing migrations up to a revision, serialised by an advisory lock (PostgreSQL) or the writer lock."""
    with engine.begin() as connection:
        is_postgres = connection.dialect.name == "postgresql"
        if is_postgres:
            _lock(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if is_postgres:
            _sort_by_bytes(connection)


def _lock(connection: Connection) -> None:
    """Wait for another migration, then limit how long each statement waits for the transactions of running servers.

    A statement that waits for a table's lock blocks every later transaction of that table.
    """
    connection.execute(text(f"SET LOCAL statement_timeout = '{_MIGRATION_MINUTES}min'"))
    connection.execute(text(f"SET LOCAL lock_timeout = '{_MIGRATION_MINUTES}min'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = '{_TABLE_LOCK_SECONDS}s'"))


def _sort_by_bytes(connection: Connection) -> None:
    """Set the collation C for all text columns, so that keys sort as in SQLite whatever the locale of the database."""
    query = """
        SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0
        AND NOT a.attisdropped AND a.atttypid = 'varchar'::regtype AND a.attcollation <> '"C"'::regcollation
        ORDER BY c.relname, a.attnum
    """
    for table, rows in groupby(connection.execute(text(query)), lambda row: str(row[0])):
        columns = ", ".join(f'ALTER COLUMN "{row[1]}" TYPE varchar COLLATE "C"' for row in rows)
        connection.execute(text(f'ALTER TABLE "{table}" {columns}'))


def drift(engine: Engine) -> list[str]:
    """Return the differences between the migrated schema and the declared tables."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [str(change) for change in compare_metadata(context, SQLModel.metadata)]


def draft(engine: Engine, revision: str, message: str) -> None:
    """Generate the next migration from the difference (for developers)."""
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.revision(config, message, autogenerate=True, rev_id=revision)
