"""A request uses one database connection; an exhausted pool is a retryable error."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from tests.fakes.backends import FakeClock
from tests.fakes.harness import ControlPlaneHarness

from windlass.db.engines import sqlite_engine
from windlass.db.migrate import migrate
from windlass.db.session import SqlDatabase
from windlass.domain.errors import ConflictError, UnavailableError
from windlass.domain.projects import ApiKey
from windlass.domain.records import StoredLogChunk
from windlass_api.routers.v1 import datasets, endpoints, jobs, models, platform, projects, usage


@pytest.fixture
def one_connection(tmp_path: Path) -> Iterator[SqlDatabase]:
    """A database with one connection."""
    engine = sqlite_engine(tmp_path / "windlass.db", connections=1, pool_timeout=0.05)
    migrate(engine)
    database = SqlDatabase(engine, FakeClock())
    yield database
    database.close()


def test_a_commit_of_a_server_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "windlass.db")  # tests/factories/databases.py changes it for other tests
    with engine.connect() as connection:
        modes = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()
    full = 2
    assert modes == ["wal", full]


def test_exhausted_pool_is_a_retryable_error(one_connection: SqlDatabase) -> None:
    with one_connection.read(), pytest.raises(UnavailableError, match="in use") as caught, one_connection.read():
        pass
    assert caught.value.retryable


def test_every_get_route_uses_one_connection(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path, connections=1)
    harness.create_project("ours")
    harness.create_dataset("ours")
    harness.client.put("/v1/projects/ours/members/bob", json={"role": "admin"})
    bob = harness.client_for_user("bob")
    checked = 0
    for module in (platform, projects, usage, datasets, jobs, models, endpoints):
        for route in module.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
                path = route.path.replace("{project}", "ours").replace("{dataset}", "reviews").replace("{number}", "1")
                for client in (harness.client, bob):
                    reply = client.get(path)
                    assert reply.status_code < 500, (path, reply.text)
                checked += 1
    assert checked > 20
    assert [project["name"] for project in bob.get("/v1/projects").json()["items"]] == ["ours"]
    harness.close()


def test_a_programming_error_is_not_reported_as_unavailable(one_connection: SqlDatabase) -> None:
    with one_connection.write() as uow:
        uow.projects._connection._connection.exec_driver_sql("DROP TABLE audit")  # type: ignore[attr-defined]  # private attribute
    with pytest.raises(OperationalError) as caught, one_connection.read() as uow:
        uow.audit.all()
    assert isinstance(caught.value.orig, sqlite3.OperationalError)


def test_a_database_error_contains_no_bound_values(one_connection: SqlDatabase) -> None:
    clock = FakeClock()
    orphan = ApiKey(id="key_1", user="secret-name", project="prj_none", secret_hash="hush-hush", created_at=clock.now())
    with pytest.raises(Exception, match="conflicts with stored data") as caught, one_connection.write() as uow:
        uow.keys.add(orphan)
    text = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "secret-name" not in text
    assert "hush-hush" not in text


def test_the_log_contains_the_cause_of_an_unavailable_database(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harness = ControlPlaneHarness(tmp_path, connections=2)
    with harness.database.read(), harness.database.read():
        assert harness.client.get("/readyz").status_code == 503
    assert "QueuePool limit" in vars(caplog.records[0])["cause"]
    harness.close()


def test_a_violated_constraint_is_a_conflict_and_not_an_error_of_the_server(tmp_path: Path) -> None:
    ready = ControlPlaneHarness(tmp_path)
    ready.create_project("ours")
    ready.create_base_model()
    ready.create_dataset("ours")
    job = ready.submit("ours", key="one")
    empty = StoredLogChunk(
        project="p", job=job["id"], start=0, end=0, source="x", attempt=1, key="k", position=0, time=ready.clock.now()
    )
    with ready.database.write() as uow:
        uow.all_projects().telemetry.append_log(empty)
    with pytest.raises(ConflictError, match="conflicts with stored data"), ready.database.write() as uow:
        uow.all_projects().telemetry.append_log(empty)
