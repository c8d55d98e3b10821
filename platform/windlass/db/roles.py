"""Creates the roles of the API and of the worker in PostgreSQL."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text

from windlass.db.migrate import lock_migrations
from windlass.domain.errors import InvalidError


def create_roles(engine: Engine, urls: Mapping[str, SecretStr | None]) -> None:
    """Create each role that does not exist, and set the password of its URL. Idempotent.

    Args:
        engine: connections of a role with CREATEROLE.
        urls: the URL by role.

    Raises:
        InvalidError: a URL is missing, has no password, or is of another role.
    """
    with engine.begin() as connection:
        lock_migrations(connection)
        for role, secret in urls.items():
            password = _password(role, secret)
            if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": role}) is None:
                connection.execute(text(f'CREATE ROLE "{role}" LOGIN'))
            # The server gets a verifier, so that no log of its statements has the password.
            driver: Any = connection.connection.driver_connection
            verifier = driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            connection.exec_driver_sql(f"ALTER ROLE \"{role}\" LOGIN PASSWORD '{verifier}'")


def _password(role: str, secret: SecretStr | None) -> str:
    url = make_url(secret.get_secret_value()) if secret is not None else None
    if url is None or url.username != role or not url.password:
        raise InvalidError(
            f"no URL has the password of the database role {role}",
            hint="set WINDLASS_DATABASE_API_URL and WINDLASS_DATABASE_WORKER_URL, each with the name of its role",
        )
    return str(url.password)
