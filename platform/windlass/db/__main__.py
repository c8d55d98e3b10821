"""Migrates the database of ``WINDLASS_DATABASE_URL``: ``python -m windlass.db upgrade``."""

import argparse
import sys

from pydantic import ValidationError

from windlass.db.engines import postgres_engine
from windlass.db.migrate import current_revision, migrate
from windlass.domain.errors import InvalidError, WindlassError
from windlass.settings import DatabaseSettings
from windlass.telemetry import set_up_logging


def upgrade() -> str:
    """Apply the missing migrations; return the revision of the database.

    Raises:
        InvalidError: no database is configured, or it has a newer schema.
    """
    settings = DatabaseSettings()
    if settings.url is None:
        raise InvalidError(
            "WINDLASS_DATABASE_URL is not set", hint="a SQLite database is migrated when its server starts"
        )
    engine = postgres_engine(settings.url.get_secret_value(), connections=1)
    try:
        migrate(engine)
        return str(current_revision(engine))
    finally:
        engine.dispose()


def main() -> int:
    """Run a command and return the exit code."""
    parser = argparse.ArgumentParser(prog="windlass.db", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("upgrade", help="apply the missing migrations; idempotent")
    parser.parse_args()
    set_up_logging()
    try:
        revision = upgrade()
    except (ValidationError, WindlassError) as error:
        hint = f"; {error.hint}" if isinstance(error, WindlassError) and error.hint else ""
        print(f"windlass.db: {error}{hint}", file=sys.stderr)  # noqa: T201 - the output of a command
        return 1
    print(f"the database has schema {revision}")  # noqa: T201 - the output of a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
