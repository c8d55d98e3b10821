"""Brings a database to the newest schema. Safe to repeat, and to run again after it was killed half-way."""

from pathlib import Path

from sqlalchemy import Engine, inspect, text

_VERSIONS = Path(__file__).parent / "migrations" / "versions"


def newest() -> str:
    """Return the revision that the code wants: revisions are numbered in their order."""
    return max(file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*.py"))


def current(engine: Engine) -> str | None:
    """Return the revision that the database has, None for an empty one."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(text("select version_num from alembic_version"))
        return found


def migrate(engine: Engine) -> None:
    """Apply the migrations that are missing."""
    if current(engine) == newest():
        return
    from windlass.db import schema  # noqa: PLC0415 - Alembic is a good part of a server's start, and rarely needed

    schema.upgrade(engine)
