"""Schema migrations with Alembic: apply, compare, generate."""

from itertools import groupby
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, text
from sqlmodel import SQLModel

from windlass.db import (  # noqa: F401 - importing them declares the tables
    audit_tables,
    cluster_tables,
    identity_tables,
    metering_tables,
    protection_tables,
    tables,
    worker_tables,
)
from windlass.db.migrate import lock_migrations
from windlass.db.row_security import DatabaseRoles, secure_rows


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


_HEAD = "head"


def upgrade(engine: Engine, revision: str = _HEAD, *, roles: DatabaseRoles | None = None) -> None:
    """Apply the missing migrations up to a revision, serialised by an advisory lock (PostgreSQL) or the writer lock."""
    with engine.begin() as connection:
        is_postgres = connection.dialect.name == "postgresql"
        if is_postgres:
            lock_migrations(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if is_postgres:
            _sort_by_bytes(connection)
            if revision == _HEAD:
                secure_rows(connection, roles or DatabaseRoles())


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
