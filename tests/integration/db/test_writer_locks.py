"""Writers with the same lock wait for each other, in one process and in several, and a lock ends with its writer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.factories import postgres_server as servers
from tests.fakes.harness import ControlPlaneHarness

from windlass.db.session import SqlDatabase
from windlass.domain.errors import UnavailableError
from windlass.domain.projects import Pool
from windlass.ports import Database, UnitOfWork

pytestmark = pytest.mark.database("postgresql")

_WRITERS = 8
_SECONDS = 60


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    built = ControlPlaneHarness(tmp_path)
    yield built
    built.close()


@pytest.fixture
def replicas(harness: ControlPlaneHarness) -> Iterator[tuple[Database, Database]]:
    """The databases of two processes."""
    other = SqlDatabase(servers.engine_of(harness.engine, servers.WORKER_ROLE, connections=3), harness.clock)
    yield harness.database, other
    other.close()


def add_pool(harness: ControlPlaneHarness, uow: UnitOfWork) -> int:
    """Add a pool whose name depends on how many there are, so that no two such transactions are independent."""
    number = uow.pools.count()
    name = f"pool-{number}"
    uow.pools.add(Pool(id=harness.deps.new_id("pool"), name=name, capacity=1, created_at=harness.clock.now()))
    return number


def test_writers_with_one_lock_never_conflict(
    harness: ControlPlaneHarness, replicas: tuple[Database, Database]
) -> None:
    """The second process has fewer connections than writers: those that wait for their turn use none."""

    def write(database: Database) -> int:
        with database.write("one") as uow:
            return add_pool(harness, uow)

    with ThreadPoolExecutor(2 * _WRITERS) as executor:
        waiting = [executor.submit(write, database) for _, database in product(range(_WRITERS), replicas)]
        numbers = [each.result(_SECONDS) for each in waiting]
    first = min(numbers)
    assert sorted(numbers) == list(range(first, first + 2 * _WRITERS))


@pytest.mark.parametrize("database", [0, 1])
def test_writers_with_other_locks_do_not_wait(
    harness: ControlPlaneHarness, replicas: tuple[Database, Database], database: int
) -> None:
    def write(lock: str | None) -> int:
        with replicas[database].write(lock) as uow:
            return add_pool(harness, uow)

    with ThreadPoolExecutor(1) as executor, replicas[0].write("one"):
        for lock in ("two", None):
            executor.submit(write, lock).result(_SECONDS)


def test_an_error_releases_the_lock_and_writes_nothing(
    harness: ControlPlaneHarness, replicas: tuple[Database, Database]
) -> None:
    def write(database: Database, *, fail: bool = False) -> int:
        with database.write("one") as uow:
            number = add_pool(harness, uow)
            if fail:
                raise ZeroDivisionError
            return number

    number = write(replicas[0])
    for database in replicas:
        with pytest.raises(ZeroDivisionError):
            write(database, fail=True)
    assert [write(database) for database in replicas] == [number + 1, number + 2]


def test_a_writer_that_lost_its_connection_holds_no_lock(
    harness: ControlPlaneHarness, replicas: tuple[Database, Database]
) -> None:
    owner = servers.engine_of(harness.engine, "postgres", connections=1)
    holders = text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")

    def lose_connection() -> None:
        with replicas[0].write("one") as uow:
            with owner.connect() as connection:
                assert connection.execute(holders).all() == [(True,)]
            add_pool(harness, uow)

    with pytest.raises(UnavailableError):
        lose_connection()
    owner.dispose()
    for database in replicas:
        with database.write("one") as uow:
            add_pool(harness, uow)
