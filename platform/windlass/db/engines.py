"""Engines: pools of connections to SQLite or PostgreSQL."""

import json
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from windlass.db.row_scope import begin_in_scope
from windlass.domain.errors import InvalidError
from windlass.kit.ca_bundle import ca_bundle

_BUSY_MILLISECONDS = 30_000
_MAX_CONNECTIONS = 64
"""More than the number of threads: 40 of the API and those of the worker. A thread uses one connection."""
_POSTGRES_DRIVER = "postgresql+psycopg"
_CONNECT_SECONDS = 5
_to_json = partial(json.dumps, allow_nan=False)
"""PostgreSQL refuses NaN and Infinity, which JSON does not have; SQLite would store them."""
_KEEPALIVES = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A server that vanished without closing its connections is noticed within 25 s."""


def sqlite_engine(path: Path, *, connections: int = _MAX_CONNECTIONS, pool_timeout: float = 5.0) -> Engine:
    """Open or create a SQLite file. A commit is on disk when it returns (WAL with synchronous=FULL).

    A thread waits up to ``pool_timeout`` seconds for a free connection. Errors contain no bound values, because user
    data must not be logged.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"check_same_thread": False, "timeout": 30},
        hide_parameters=True,
        json_serializer=_to_json,
        pool_size=min(5, connections),
        max_overflow=max(0, connections - 5),
        pool_timeout=pool_timeout,
    )

    @event.listens_for(engine, "connect")
    def _connect(raw: sqlite3.Connection, _: Any) -> None:
        raw.isolation_level = None  # the begin listener below starts transactions, not the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MILLISECONDS}"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that writes later fails at once with "database is locked", whatever the timeout.
        writes = connection.get_execution_options().get("writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def postgres_engine(
    url: str,
    *,
    connections: int = 20,
    pool_timeout: float = 5.0,
    statement_seconds: float = 30.0,
    lock_seconds: float = 10.0,
) -> Engine:
    """Open a pool of connections to PostgreSQL. Nothing is connected yet.

    Args:
        url: ``postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE``; errors never contain it.
        connections: connections of this process, all of them open once they were needed at the same time.
        pool_timeout: seconds that a thread waits for a free connection.
        statement_seconds: time after which the server cancels a statement.
        lock_seconds: time that a statement waits for a lock.

    Raises:
        InvalidError: the URL is malformed, or names another database or driver.
    """
    shape = f"{_POSTGRES_DRIVER}://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InvalidError("WINDLASS_DATABASE_URL is not a URL", hint=f"its form is {shape}") from error
    if parsed.drivername != _POSTGRES_DRIVER:
        raise InvalidError(
            f"WINDLASS_DATABASE_URL begins with {parsed.drivername}://, which is not supported",
            hint=f"its form is {shape}",
        )
    timeouts = {
        "statement_timeout": statement_seconds,
        "lock_timeout": lock_seconds,
        "idle_in_transaction_session_timeout": 2 * statement_seconds,
    }
    private = ca_bundle()
    tls = {"sslrootcert": str(private)} if private is not None and "sslrootcert" not in parsed.query else {}
    options = " ".join(f"-c {name}={round(seconds * 1000)}" for name, seconds in timeouts.items())
    engine = create_engine(
        parsed,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "windlass",
            "options": options,
            **_KEEPALIVES,
            **tls,
        },
        hide_parameters=True,
        json_serializer=_to_json,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=pool_timeout,
    )
    event.listen(engine, "begin", begin_in_scope)
    return engine
