"""The migrated schema matches the declared tables."""

from pathlib import Path

from sqlalchemy import inspect

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
