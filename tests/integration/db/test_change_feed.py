"""A process learns what another one commits, also after the server was restarted."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.factories.postgres_server import PostgresServer, postgres_server
from tests.fakes.backends import FakeClock

from windlass.db.engines import postgres_engine
from windlass.db.session import SqlDatabase
from windlass.domain.errors import ConflictError
from windlass.domain.projects import Pool
from windlass.domain.records import Intent

_SECONDS = 60.0


@pytest.fixture
def databases() -> Iterator[list[SqlDatabase]]:
    """The same database in two processes; the second one listens."""
    url = postgres_server().new_database()
    opened = [SqlDatabase(postgres_engine(url, connections=2), FakeClock()) for _ in range(2)]
    yield opened
    for database in opened:
        database.close()


def pool(name: str) -> Pool:
    return Pool(id=f"pool_{name}", name=name, capacity=1, created_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_commit_of_another_process_is_reported(databases: list[SqlDatabase]) -> None:
    writer, listener = databases
    connected, changed = threading.Event(), threading.Event()
    writer.subscribe({Pool, Intent}, lambda _: None)
    listener.subscribe({Intent}, lambda _: connected.set())
    listener.subscribe({Pool}, lambda kinds: changed.set() if kinds == {Pool} and connected.is_set() else None)
    listener.listen()
    assert connected.wait(_SECONDS), "everything may have changed before the connection"
    changed.clear()
    with writer.write() as uow:
        uow.pools.add(pool("a"))
    assert changed.wait(_SECONDS)
    changed.clear()
    with pytest.raises(ConflictError), writer.write() as uow:
        uow.pools.add(pool("a"))
    assert not changed.wait(1), "what was rolled back is not reported"


def test_a_lost_connection_is_made_again_and_reports_everything(databases: list[SqlDatabase]) -> None:
    _, listener = databases
    reported = threading.Event()
    listener.subscribe({Pool}, lambda _: reported.set())
    listener.listen()
    assert reported.wait(_SECONDS)
    reported.clear()
    server: PostgresServer = postgres_server()
    server.stop()
    server.start()
    assert reported.wait(_SECONDS)
