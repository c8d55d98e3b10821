"""Checks of the PostgreSQL server that a control plane is to use."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from windlass.db.engines import postgres_engine
from windlass.db.migrate import require_current
from windlass.db.row_security import bypass_problem
from windlass.domain.checks import CheckResult, failed, passed, warning
from windlass.domain.errors import InvalidError

MINIMUM_VERSION: Final = 15
_CHECK: Final = "database"


def check_database(url: str) -> Iterator[tuple[CheckResult, tuple[datetime, datetime, datetime] | None]]:
    """Check the database as the API uses it.

    Yields the results, and with one of them the server's time between two of this process.

    ``url`` is never part of a result, since it holds the password.
    """
    try:
        engine = postgres_engine(url, connections=1)
    except InvalidError as error:
        yield failed(_CHECK, error.message, error.hint), None
        return
    try:
        yield from _check(engine)
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        action = "check WINDLASS_DATABASE_URL, and that network policies permit its port"
        yield failed(_CHECK, f"cannot connect: {reason}", action), None
    finally:
        engine.dispose()


def _check(engine: Engine) -> Iterator[tuple[CheckResult, tuple[datetime, datetime, datetime] | None]]:
    with engine.connect() as connection:
        number = int(connection.scalar(text("show server_version_num")) or 0)
        before = datetime.now(UTC)
        now: datetime = connection.execute(text("select clock_timestamp()")).scalar_one()
        times = (now, before, datetime.now(UTC))
    version = f"PostgreSQL {number // 10_000}"
    if number < MINIMUM_VERSION * 10_000:
        yield failed(_CHECK, f"{version} is too old", f"upgrade it to PostgreSQL {MINIMUM_VERSION} or later"), times
        return
    yield passed(_CHECK, version), times
    try:
        require_current(engine)
    except InvalidError as error:
        yield warning("database schema", error.message, error.hint), None
    else:
        yield passed("database schema", "current"), None
        yield _row_security(engine), None


def _row_security(engine: Engine) -> CheckResult:
    with engine.connect() as connection:
        problem = bypass_problem(connection)
    if not problem:
        return passed("row security", "restricts the role of the API")
    action = "give the API a role of its own: WINDLASS_DATABASE_API_URL, see docs/guides/install-on-a-cluster.md"
    return warning("row security", f"does not restrict the API: {problem}", action)
