"""Lost connections, restarts of the server, and conflicts that do not end: what a client gets, and that it passes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.factories import postgres_server as servers
from tests.factories.postgres_server import PostgresServer, postgres_server
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.errors import UnavailableError
from windlass.domain.projects import Project, Role, SubjectKind
from windlass.ports import Changes, Database, UnitOfWork
from windlass.services.projects import Members
from windlass.services.transactions import MAX_CONFLICTS

pytestmark = pytest.mark.database("postgresql")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    built = ControlPlaneHarness(tmp_path)
    built.create_project("ours")
    yield built
    built.close()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """The server of the tests, which runs again afterwards."""
    running = postgres_server()
    yield running
    running.stop()
    running.start()


def checkpoint(harness: ControlPlaneHarness) -> None:
    """Write everything to disk: the server of the tests loses its last commits when it is stopped like a crash."""
    owner = servers.engine_of(harness.engine, "postgres", connections=1)
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))
    owner.dispose()


def test_a_request_waits_for_no_server_that_is_away_and_the_next_ones_succeed(
    harness: ControlPlaneHarness, server: PostgresServer
) -> None:
    with ThreadPoolExecutor(8) as executor:  # many connections, all of which are lost
        list(executor.map(lambda _: harness.client.get("/v1/projects"), range(16)))
    checkpoint(harness)
    server.stop()
    for path in ("/v1/projects", "/readyz"):
        reply = harness.client.get(path)
        assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")
        assert int(reply.headers["retry-after"]) > 0
    assert harness.client.get("/healthz").status_code == 200
    server.start()
    answers = [harness.client.get("/v1/projects").status_code for _ in range(5)]
    assert answers in ([200] * 5, [503] + [200] * 4), "one lost connection closes all others of the pool"
    assert harness.client.post("/v1/pools", json={"name": "a100", "capacity": 1}).status_code == 201


def close_connection(harness: ControlPlaneHarness, uow: UnitOfWork) -> None:
    """Close the connection of a transaction in this process."""
    del harness
    uow.projects._connection._connection.connection.driver_connection.close()  # type: ignore[attr-defined]  # private attribute


def end_connection(harness: ControlPlaneHarness, uow: UnitOfWork) -> None:
    """Let the server end the connection of a transaction."""
    del uow
    query = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = user"
    )
    with harness.engine.connect() as other:
        other.execute(query)


@pytest.mark.parametrize("lose", [close_connection, end_connection])
def test_a_transaction_whose_connection_is_lost_is_unavailable(
    harness: ControlPlaneHarness, lose: Callable[[ControlPlaneHarness, UnitOfWork], None]
) -> None:
    def create_project_and_lose_connection() -> None:
        with harness.database.write() as uow:
            uow.projects.add(Project(id="prj_lost", name="lost", created_at=harness.clock.now()))
            lose(harness, uow)

    with pytest.raises(UnavailableError):
        create_project_and_lose_connection()
    with harness.database.read() as uow:
        assert [project.name for project in uow.projects.all()] == ["ours"]


class ConflictingWriter:
    """A commit hook: before the commit of each transaction of a request, a concurrent one that conflicts commits."""

    def __init__(self, database: Database, project: str) -> None:
        self._database, self._project = database, project
        self.conflicts = 0

    def prepare(self, uow: UnitOfWork, changes: Changes) -> None:
        del uow, changes
        if threading.current_thread().name == "other writer":
            return
        self.conflicts += 1
        thread = threading.Thread(target=self._write, name="other writer")
        thread.start()
        thread.join()

    def _write(self) -> None:
        with self._database.write() as uow:
            members = uow.project(self._project).members
            [bob] = [member for member in members.all() if member.name == "bob"]
            members.save(bob.model_copy(update={"role": Role.EDITOR if self.conflicts % 2 else Role.ADMIN}))


def test_a_request_that_conflicts_every_time_is_refused_and_can_be_repeated(harness: ControlPlaneHarness) -> None:
    with harness.database.read() as uow:
        project = uow.projects.get({"name": "ours"}).id
    for user in ("ann", "bob"):
        Members(harness.deps, ADMIN, project).put(SubjectKind.USER, user, Role.ADMIN)
    writer = ConflictingWriter(harness.database, project)
    harness.database.add_commit_hook(writer)
    reply = harness.client.delete("/v1/projects/ours/members/ann")
    assert (reply.status_code, reply.json()["code"]) == (503, "transaction_conflict"), reply.text
    assert int(reply.headers["retry-after"]) > 0
    assert writer.conflicts == MAX_CONFLICTS
    assert {member.name for member in Members(harness.deps, ADMIN, project).all()} == {"admin", "ann", "bob"}
