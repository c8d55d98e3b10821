"""Migrates a database to the newest schema. Idempotent, also after an interrupted run."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from windlass.db.row_security import DatabaseRoles, secure_rows
from windlass.domain.errors import InvalidError

_ADVISORY_LOCK = 7_236_542_918
_MIGRATION_MINUTES = 15
_TABLE_LOCK_SECONDS = 10
_VERSIONS = Path(__file__).parent / "migrations" / "versions"


def head_revision() -> str:
    """Return the newest revision of the migrations. Revision numbers sort in order."""
    return max(file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*.py"))


def current_revision(engine: Engine) -> str | None:
    """Return the revision of the database, None for an empty one."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("select version_num from alembic_version"))
        return revision


def migrate(engine: Engine, roles: DatabaseRoles | None = None) -> None:
    """Apply the missing migrations, and on PostgreSQL the row security for these roles.

    Raises:
        InvalidError: the database has a newer schema.
    """
    revision = current_revision(engine)
    _require_not_newer(revision)
    roles = roles or DatabaseRoles()
    if revision != head_revision():
        from windlass.db import schema  # noqa: PLC0415 - Alembic is slow to import and rarely needed

        schema.upgrade(engine, roles=roles)
    elif engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            lock_migrations(connection)
            secure_rows(connection, roles)


def lock_migrations(connection: Connection) -> None:
    """Wait for another migration, then limit how long each statement waits for the transactions of running servers.

    A statement that waits for a table's lock blocks every later transaction of that table.
    """
    connection.execute(text(f"SET LOCAL statement_timeout = '{_MIGRATION_MINUTES}min'"))
    connection.execute(text(f"SET LOCAL lock_timeout = '{_MIGRATION_MINUTES}min'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = '{_TABLE_LOCK_SECONDS}s'"))


def require_current(engine: Engine) -> None:
    """Require the schema that this version of Windlass reads and writes.

    Raises:
        InvalidError: the database has an older or a newer schema, or none.
    """
    revision, expected = current_revision(engine), head_revision()
    if revision is None or revision < expected:
        raise InvalidError(
            f"the database has schema {revision or 'none'}, this version of Windlass needs {expected}",
            hint="run `python -m windlass.db upgrade` of this version first",
        )
    _require_not_newer(revision)


def _require_not_newer(revision: str | None) -> None:
    if revision is not None and revision > (expected := head_revision()):
        raise InvalidError(
            f"the database has schema {revision}, which is newer than {expected} of this version of Windlass",
            hint="start the version of Windlass that migrated the database, or a newer one",
        )
