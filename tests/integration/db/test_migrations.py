"""The migrated schema matches the declared tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, MetaData, Table, inspect
from tests.factories import postgres_server

from windlass.db.engines import sqlite_engine
from windlass.db.migrate import current_revision, head_revision, migrate
from windlass.db.schema import drift, upgrade


def test_migrating_an_empty_database_creates_the_declared_tables(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "new.db")
    assert current_revision(engine) is None
    migrate(engine)
    assert current_revision(engine) == head_revision()
    assert drift(engine) == []
    migrate(engine)
    assert drift(engine) == []
    engine.dispose()


def test_existing_datasets_continue_from_their_highest_version_number(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "old.db")
    upgrade(engine, "0001")
    with engine.begin() as connection:
        execute = connection.exec_driver_sql
        execute("INSERT INTO project (id, name, display_name, created_at, version) VALUES ('p', 'p', '', 0, 1)")
        for key in ("full", "empty"):
            columns = "id, project, name, task, description, created_at, version"
            execute(f"INSERT INTO dataset ({columns}) VALUES ('{key}', 'p', '{key}', 'chat', '', 0, 1)")  # noqa: S608 - constants
        for number in (1, 4):
            columns = "id, project, dataset, number, state, task, origin, options, steps, converter_version, prefix"
            values = f"'v{number}', 'p', 'full', {number}, 'ready', 'chat', 'upload', '{{}}', '[]', 1, 'x'"
            more = "rows, labels, problem, created_by, created_at, version"
            execute(f"INSERT INTO dataset_version ({columns}, {more}) VALUES ({values}, '{{}}', '[]', '', 'a', 0, 1)")  # noqa: S608 - constants
    migrate(engine)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT id, last_number FROM dataset ORDER BY id").all()
        versions = connection.exec_driver_sql("SELECT count(*) FROM dataset_version").scalar()
    assert [tuple(row) for row in rows] == [("empty", 0), ("full", 4)]
    assert versions == 2
    engine.dispose()


def test_owners_become_admins_and_admin_keys_get_the_platform_role(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "old.db")
    upgrade(engine, "0005")
    with engine.begin() as connection:
        execute = connection.exec_driver_sql
        execute("INSERT INTO project (id, name, display_name, created_at, version) VALUES ('p', 'p', '', 0, 1)")
        for user, role in (("ada", "owner"), ("bob", "viewer")):
            execute(f"INSERT INTO member VALUES ('p', '{user}', '{role}', 3)")  # noqa: S608 - constants
        for key, admin in (("key_a", 1), ("key_b", 0)):
            columns = "id, user, name, admin, secret_hash, created_at"
            execute(f"INSERT INTO api_key ({columns}) VALUES ('{key}', 'ada', '', {admin}, 'x', 0)")  # noqa: S608 - constants
    migrate(engine)
    with engine.connect() as connection:
        members = connection.exec_driver_sql("SELECT * FROM member ORDER BY name").all()
        keys = connection.exec_driver_sql("SELECT id, platform_role FROM api_key ORDER BY id").all()
    assert [tuple(row) for row in members] == [("p", "User", "ada", "admin", 3), ("p", "User", "bob", "viewer", 3)]
    assert [tuple(row) for row in keys] == [("key_a", "platform-admin"), ("key_b", None)]
    engine.dispose()


def test_drift_reports_a_missing_table(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "new.db")
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE audit")
    assert any("audit" in change for change in drift(engine))
    assert "audit" not in inspect(engine).get_table_names()
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without tables."""
    is_sqlite = request.param == "sqlite"
    engine = sqlite_engine(tmp_path / "old.db") if is_sqlite else postgres_server.new_engine(migrated=False)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("cluster", [False, True])
def test_gpu_time_before_the_metering_is_in_the_ledger(empty: Engine, cluster: bool) -> None:
    upgrade(empty, "0005")
    spec = {"model": "m", "resources": {"pool": "big", "workers": 3, "gpus_per_worker": 2}}
    with empty.begin() as connection:
        insert_row(connection, "project", id="p", name="p")
        insert_row(connection, "job", id="job_1", project="p", spec=spec, state="succeeded")
        insert_row(connection, "run", id="run_1", project="p", job="job_1", name="r", created_at=5, ended_at=9)
        insert_row(connection, "pool", id="pool_1", name="big", price_per_gpu_hour=2.1)
        if cluster:
            insert_row(connection, "cluster_sync_status", name="cluster")
            held = {"holder": "w", "pool": "big", "gpus": 4, "reserved_at": 6, "released_at": None}
            insert_row(connection, "gpu_reservation", job="job_1", project="p", **held)
    upgrade(empty)
    with empty.connect() as connection:
        [reservation] = connection.exec_driver_sql("SELECT * FROM gpu_reservation").mappings().all()
        [price] = connection.exec_driver_sql("SELECT * FROM pool_price").mappings().all()
    times = ("w", 6, None, 4) if cluster else ("run_1", 5, 9, 6)
    assert tuple(reservation[name] for name in ("holder", "reserved_at", "released_at", "gpus")) == times
    names = ("job", "pool", "model", "api_key", "settlement")
    assert tuple(reservation[name] for name in names) == ("job_1", "big", "m", "", None)
    assert dict(price) == {"pool": "big", "valid_from": 0, "micros_per_gpu_hour": 2_100_000}
    assert drift(empty) == []


def insert_row(connection: Connection, table_name: str, **values: object) -> None:
    """Insert a row; a column that is not named and must have a value gets 0, or an empty one."""
    table = Table(table_name, MetaData(), autoload_with=connection)
    empty: dict[type, object] = {bool: False, str: "", dict: {}}
    needed = {
        column.name: empty.get(column.type.python_type, 0)
        for column in table.columns
        if not column.nullable and column.server_default is None
    }
    connection.execute(table.insert().values(needed | values))
