"""``python -m windlass.db upgrade``: migrates the database of ``WINDLASS_DATABASE_OWNER_URL``, or that of ``_URL``."""

import argparse
import sys

from pydantic import ValidationError

from windlass.database_settings import DatabaseSettings
from windlass.db.engines import postgres_engine
from windlass.db.migrate import current_revision, migrate
from windlass.db.roles import create_roles
from windlass.db.row_security import DatabaseRoles
from windlass.domain.errors import InvalidError, WindlassError
from windlass.telemetry import set_up_logging


def upgrade(*, creates_roles: bool = False) -> str:
    """Apply the missing migrations and the row security; return the revision of the database.

    Raises:
        InvalidError: no database is configured, or it has a newer schema; or a role cannot be created.
    """
    settings = DatabaseSettings()
    url = settings.of_owner
    if url is None:
        raise InvalidError(
            "neither WINDLASS_DATABASE_OWNER_URL nor WINDLASS_DATABASE_URL is set",
            hint="a SQLite database is migrated when its server starts",
        )
    engine = postgres_engine(url.get_secret_value(), connections=1)
    roles = DatabaseRoles(api=settings.api_role, worker=settings.worker_role)
    try:
        if creates_roles:
            create_roles(engine, {roles.api: settings.api_url, roles.worker: settings.worker_url})
        migrate(engine, roles)
        return str(current_revision(engine))
    finally:
        engine.dispose()


def main() -> int:
    """Run a command and return the exit code."""
    parser = argparse.ArgumentParser(prog="windlass.db", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("upgrade", help="apply the missing migrations; idempotent")
    command.add_argument(
        "--create-roles",
        action="store_true",
        help="create the roles of WINDLASS_DATABASE_API_URL and _WORKER_URL, or set their passwords",
    )
    args = parser.parse_args()
    set_up_logging()
    try:
        revision = upgrade(creates_roles=args.create_roles)
    except (ValidationError, WindlassError) as error:
        hint = f"; {error.hint}" if isinstance(error, WindlassError) and error.hint else ""
        print(f"windlass.db: {error}{hint}", file=sys.stderr)  # noqa: T201 - the output of a command
        return 1
    print(f"the database has schema {revision}")  # noqa: T201 - the output of a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
