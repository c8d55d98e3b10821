"""A server uses only the schema of its version, and replicas that migrate at the same time migrate once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from tests.factories import postgres_server
from tests.factories.databases import new_engine

from windlass.db.__main__ import main
from windlass.db.migrate import current_revision, head_revision, migrate, require_current
from windlass.db.schema import drift
from windlass.domain.errors import InvalidError


def set_revision(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_a_server_refuses_a_database_of_another_version_and_names_both(tmp_path: Path) -> None:
    """As during a rolling upgrade, when a replica of the old version restarts after the migration."""
    engine = new_engine(tmp_path)
    head = head_revision()
    require_current(engine)
    set_revision(engine, "9999")
    for check in (require_current, migrate):
        with pytest.raises(InvalidError, match=f"schema 9999, which is newer than {head}"):
            check(engine)
    assert current_revision(engine) == "9999"
    set_revision(engine, "0001")
    with pytest.raises(InvalidError, match=f"schema 0001, this version of Windlass needs {head}") as caught:
        require_current(engine)
    assert "windlass.db upgrade" in caught.value.hint
    engine.dispose()


@pytest.mark.database("postgresql")
def test_two_migrations_at_the_same_time_migrate_once() -> None:
    engines = [postgres_server.new_engine(connections=2, migrated=False)]
    engines.append(create_engine(engines[0].url))
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(migrate, engines))
    assert [current_revision(engine) for engine in engines] == [head_revision()] * 2
    assert drift(engines[0]) == []
    for engine in engines:
        engine.dispose()


@pytest.mark.database("postgresql")
def test_the_command_migrates_and_refuses_a_newer_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = postgres_server.new_engine(connections=2, migrated=False)
    monkeypatch.setenv("WINDLASS_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    monkeypatch.setattr("sys.argv", ["windlass.db", "upgrade"])
    assert [main(), main()] == [0, 0]
    assert capsys.readouterr().out == f"the database has schema {head_revision()}\n" * 2
    set_revision(engine, "9999")
    assert main() == 1
    assert "newer than" in capsys.readouterr().err
    engine.dispose()
