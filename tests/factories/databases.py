"""Databases of tests: SQLite or PostgreSQL, as the test is parametrized.

A folder whose ``conftest.py`` calls ``run_on_both`` runs each test on both.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, event
from tests.factories import postgres_server

from windlass.db.engines import sqlite_engine
from windlass.db.migrate import migrate

Kind = Literal["sqlite", "postgresql"]
_current: list[Kind] = ["sqlite"]
_open: list[Engine] = []


@cache
def migrated_database() -> Path:
    """Return a migrated database, made once per process; each test starts from a copy."""
    template = Path(tempfile.mkdtemp(prefix="windlass-test-")) / "windlass.db"
    engine = sqlite_engine(template)
    migrate(engine)
    engine.dispose()  # closing the last connection checkpoints the write-ahead log into the file
    return template


@contextmanager
def using(kind: Kind) -> Iterator[None]:
    """Open databases of this kind inside the block, and close their connections after it."""
    _current.append(kind)
    try:
        yield
    finally:
        _current.pop()
        while _open:  # a test that failed has not closed them
            _open.pop().dispose()


def new_engine(folder: Path, *, connections: int = 64, pool_timeout: float = 5.0) -> Engine:
    """Return an engine of a new, migrated database; ``folder`` is for one that is a file.

    On PostgreSQL it has the role of the worker, as a process that serves users and reconciles.
    """
    if _current[-1] == "postgresql":
        owner = postgres_server.new_engine(connections=1)
        engine = postgres_server.engine_of(
            owner, postgres_server.WORKER_ROLE, connections=min(connections, 30), pool_timeout=pool_timeout
        )
    else:
        shutil.copy(migrated_database(), folder / "windlass.db")
        engine = sqlite_engine(folder / "windlass.db", connections=connections, pool_timeout=pool_timeout)
        event.listen(engine, "connect", _commit_without_waiting_for_the_disk)
    _open.append(engine)
    return engine


def owner_engine(engine: Engine) -> Engine:
    """Return an engine of the same database for the owner of its tables; on SQLite it is the same one."""
    if engine.dialect.name == "sqlite":
        return engine
    owner = postgres_server.engine_of(engine, postgres_server.OWNER_ROLE, connections=1)
    _open.append(owner)
    return owner


def _commit_without_waiting_for_the_disk(connection: Any, record: object) -> None:
    """A killed process loses no commit all the same; only a power failure would, which no test causes."""
    del record
    connection.execute("PRAGMA synchronous=OFF")


def run_on_both(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test by the database, unless ``pytest.mark.database`` names the one that it is for."""
    marker = metafunc.definition.get_closest_marker("database")
    kinds = marker.args if marker else ("sqlite", "postgresql")
    metafunc.parametrize("database_kind", kinds, indirect=True)


@pytest.fixture(autouse=True)
def database_kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """The kind of the databases that the test opens."""
    kind: Kind = getattr(request, "param", "sqlite")
    with using(kind):
        yield kind
