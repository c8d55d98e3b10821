"""The schema comes from migrations alone, and is what the code declares."""

from pathlib import Path

from sqlalchemy import inspect

from windlass.db.migrate import current, migrate, newest
from windlass.db.schema import drift
from windlass.db.session import sqlite_engine


def test_migrating_an_empty_database_gives_the_declared_tables(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "new.db")
    assert current(engine) is None
    migrate(engine)
    assert current(engine) == newest()
    assert drift(engine) == []
    migrate(engine)
    assert drift(engine) == []
    engine.dispose()


def test_drift_is_found(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "new.db")
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE audit")
    assert any("audit" in change for change in drift(engine))
    assert "audit" not in inspect(engine).get_table_names()
    engine.dispose()
