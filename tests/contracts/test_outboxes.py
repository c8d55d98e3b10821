"""Runs the outbox contract on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.outbox import OutboxContract
from tests.factories.databases import Kind, new_engine, using
from tests.fakes.backends import FakeClock

from windlass.db.session import SqlDatabase
from windlass.ports import Database


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
class TestSqlOutbox(OutboxContract):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def database(self, tmp_path: Path, clock: FakeClock, kind: Kind) -> Iterator[Database]:
        with using(kind):
            opened = SqlDatabase(new_engine(tmp_path), clock)
            yield opened
            opened.close()
