"""Runs the contract of the request loads on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.request_loads import RequestLoadStoreContract
from tests.factories.databases import Kind, new_engine, using
from tests.fakes.backends import FakeClock

from windlass.db.session import SqlDatabase
from windlass.ports import Database


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
class TestSqlRequestLoadStore(RequestLoadStoreContract):
    @pytest.fixture
    def database(self, tmp_path: Path, kind: Kind) -> Iterator[Database]:
        with using(kind):
            opened = SqlDatabase(new_engine(tmp_path), FakeClock())
            yield opened
            opened.close()
