"""Connections are few: a request takes one, and who finds none hears it as an error of ours."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from tests.fakes.backends import HandClock
from tests.fakes.house import House

from windlass.db.migrate import migrate
from windlass.db.session import SqlDatabase, sqlite_engine
from windlass.domain.errors import UnavailableError
from windlass.domain.projects import ApiKey
from windlass_api.routers.v1 import datasets, endpoints, jobs, models, platform, projects


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[SqlDatabase]:
    """A database with one connection."""
    engine = sqlite_engine(tmp_path / "windlass.db", connections=1, patience=0.05)
    migrate(engine)
    database = SqlDatabase(engine, HandClock())
    yield database
    database.close()


def test_no_connection_is_an_error_that_may_be_retried(narrow: SqlDatabase) -> None:
    with narrow.read(), pytest.raises(UnavailableError, match="in use") as caught, narrow.read():
        pass
    assert caught.value.retryable


def test_every_list_is_read_over_one_connection(tmp_path: Path) -> None:
    house = House(tmp_path, connections=1)
    house.project("ours")
    house.dataset("ours")
    house.client.put("/v1/projects/ours/members/bob", json={"role": "owner"})
    bob = house.client_of("bob")
    seen = 0
    for module in (platform, projects, datasets, jobs, models, endpoints):
        for route in module.router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
                path = route.path.replace("{project}", "ours").replace("{dataset}", "reviews").replace("{number}", "1")
                for client in (house.client, bob):
                    reply = client.get(path)
                    assert reply.status_code < 500, (path, reply.text)
                seen += 1
    assert seen > 20
    assert [one["name"] for one in bob.get("/v1/projects").json()["items"]] == ["ours"]
    house.close()


def test_an_error_of_the_code_is_not_called_an_outage(narrow: SqlDatabase) -> None:
    with narrow.write() as work:
        work.projects._connection.exec_driver_sql("DROP TABLE audit")  # type: ignore[attr-defined]  # the connection below the port
    with pytest.raises(OperationalError) as caught, narrow.read() as work:
        work.audit.all()
    assert isinstance(caught.value.orig, sqlite3.OperationalError)


def test_an_error_of_the_database_shows_no_value(narrow: SqlDatabase) -> None:
    clock = HandClock()
    stray = ApiKey(id="key_1", user="secret-name", project="prj_none", secret_hash="hush-hush", created_at=clock.now())
    with pytest.raises(Exception, match=r"FOREIGN KEY|exists already") as caught, narrow.write() as work:
        work.keys.add(stray)
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "secret-name" not in shown
    assert "hush-hush" not in shown


def test_the_log_names_the_cause_of_an_outage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house = House(tmp_path, connections=2)
    with house.database.read(), house.database.read():
        assert house.client.get("/readyz").status_code == 503
    assert "QueuePool limit" in vars(caplog.records[0])["cause"]
    house.close()
