"""The chain of the audit log on SQLite and PostgreSQL: triggers, sealing beside other writers, removal by age."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from tests.factories.databases import new_engine, owner_engine
from tests.fakes.backends import NOON, FakeClock

from windlass.db.session import SqlDatabase
from windlass.domain.audit import (
    AuditEntry,
    ChainLink,
    ChainProblem,
    ChainProblemKind,
    entry_hash,
    verify_end,
    verify_entries,
)
from windlass.domain.ids import encode_id
from windlass.services.audit import AuditSealer


@dataclass
class AuditedDatabase:
    """A database with the worker's sealer."""

    engine: Engine
    clock: FakeClock
    database: SqlDatabase
    sealer: AuditSealer

    def entry(self, number: int, seconds: float = 0.0) -> AuditEntry:
        time = NOON + timedelta(seconds=seconds)
        changes = {"role": {"before": None, "after": "edi\u0000tor \ud83d\ude80"}}
        return AuditEntry.model_validate(
            {
                "id": encode_id("aud", number, 0),
                "time": time,
                "actor": "ada",
                "project": None,
                "action": "member.put",
                "changes": changes,
            }
        )

    def add(self, *numbers: int) -> None:
        with self.database.write() as uow:
            for number in numbers:
                uow.audit.add(self.entry(number, number))

    def problem(self) -> ChainProblem | None:
        with self.database.read() as uow:
            state = uow.audit_chain.state()
            last, problem = verify_entries(uow.audit_chain.sealed(state.anchor.position, 1000), state.anchor)
        return problem or verify_end(last, state.head)

    def order(self) -> list[str]:
        with self.database.read() as uow:
            return [stored.entry.id for stored in uow.audit_chain.sealed(0, 1000) if stored.entry is not None]

    @cached_property
    def owner(self) -> Engine:
        """The database in the role of the owner of its tables, whom privileges do not restrict."""
        return owner_engine(self.engine)

    def execute(self, statement: str, **values: Any) -> int:
        with self.owner.begin() as connection:
            return connection.execute(text(statement), values).rowcount

    def execute_as_owner(self, statement: str) -> None:
        """Change the database as somebody does who has all rights on it: without its triggers."""
        with self.owner.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
                connection.execute(text("ALTER TABLE audit_chain DISABLE TRIGGER USER"))
            else:
                names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars()
                for name in [*names]:
                    connection.execute(text(f"DROP TRIGGER {name}"))
            connection.execute(text(statement))


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[AuditedDatabase]:
    engine, clock = new_engine(tmp_path), FakeClock()
    database = SqlDatabase(engine, clock)
    yield AuditedDatabase(engine, clock, database, AuditSealer(database, clock, timedelta(seconds=5)))
    database.close()


def test_entries_are_sealed_in_the_order_of_their_ids(audited: AuditedDatabase) -> None:
    audited.add(3, 1)
    audited.add(2)
    assert audited.sealer.seal() == 3
    assert audited.order() == [audited.entry(number).id for number in (1, 2, 3)]
    assert audited.problem() is None
    assert audited.sealer.seal() == 0


def test_the_sealer_waits_for_its_interval_and_seals_all(audited: AuditedDatabase, monkeypatch: Any) -> None:
    monkeypatch.setattr("windlass.services.audit.SEALED_ROWS", 2)
    audited.add(*range(5))
    assert audited.sealer.step() is None
    assert len(audited.order()) == 5
    audited.add(5)
    assert audited.sealer.step() == 5.0
    assert len(audited.order()) == 5
    audited.clock.advance(5)
    assert audited.sealer.step() is None
    assert len(audited.order()) == 6
    assert audited.problem() is None


def test_the_age_of_an_entry_that_cannot_be_sealed_grows(audited: AuditedDatabase) -> None:
    audited.add(0, 1)
    audited.execute_as_owner("UPDATE audit SET count = 0, changes = '[]' WHERE actor = 'ada' AND time % 2000000 = 0")
    assert audited.sealer.step() == 5.0
    audited.clock.advance(100)
    assert audited.sealer.age() == 100.0
    assert len(audited.order()) == 1


COLUMNS = "time, actor, action, subject, name, request_id, address, outcome, code, count, changes"
FORBIDDEN = (
    "UPDATE audit SET actor = 'eve' WHERE position = 2",
    "UPDATE audit SET changes = '{}' WHERE position = 2",
    "UPDATE audit SET hash = 'x' WHERE position = 2",
    "UPDATE audit SET position = 9 WHERE position = 2",
    "UPDATE audit SET position = NULL, previous_hash = NULL, hash = NULL WHERE position = 2",
    "UPDATE audit SET actor = 'eve' WHERE position IS NULL",
    "UPDATE audit SET actor = 'eve', position = 4, previous_hash = 'x', hash = 'x' WHERE position IS NULL",
    "UPDATE audit SET position = 2, previous_hash = 'x', hash = 'x' WHERE position IS NULL",
    "DELETE FROM audit WHERE position = 2",
    "DELETE FROM audit WHERE position = 1",
    "DELETE FROM audit WHERE position IS NULL",
    "DELETE FROM audit_chain",
    "INSERT INTO audit_chain SELECT 2, anchor_position, anchor_hash, position, hash FROM audit_chain",
    "UPDATE audit_chain SET position = 2, hash = (SELECT hash FROM audit WHERE position = 2)",
    "UPDATE audit_chain SET hash = 'x'",
    "UPDATE audit_chain SET position = 9",
    "UPDATE audit_chain SET anchor_position = 1, anchor_hash = 'x'",
    "UPDATE audit_chain SET anchor_position = 9, anchor_hash = hash",
    "UPDATE audit_chain SET id = 2",
    f"INSERT INTO audit ({COLUMNS}, id, position) SELECT {COLUMNS}, 'new', 4 FROM audit",  # noqa: S608 - constants
)
OF_ONE_DATABASE = {
    "postgresql": ("TRUNCATE audit", "TRUNCATE audit_chain", "TRUNCATE audit, audit_chain"),
    "sqlite": (
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE position = 2",
        "UPDATE OR REPLACE audit SET position = 2, previous_hash = 'x', hash = 'x' WHERE position IS NULL",
    ),
}


def test_the_database_refuses_to_change_the_log_and_its_ends(audited: AuditedDatabase) -> None:
    audited.add(1, 2, 3)
    audited.sealer.seal()
    audited.add(4)
    for statement in (*FORBIDDEN, *OF_ONE_DATABASE[audited.engine.dialect.name]):
        with pytest.raises(DBAPIError, match="audit log"):
            audited.execute(statement)
    assert audited.problem() is None
    audited.sealer.seal()
    assert len(audited.order()) == 4


TAMPERING: tuple[tuple[str, int, ChainProblemKind], ...] = (
    ("UPDATE audit SET actor = 'eve' WHERE position = 2", 2, ChainProblemKind.CHANGED),
    ("UPDATE audit SET time = time + 1 WHERE position = 3", 3, ChainProblemKind.CHANGED),
    ("UPDATE audit SET changes = '{\"a\": 1}' WHERE position = 2", 2, ChainProblemKind.CHANGED),
    ("DELETE FROM audit WHERE position = 2", 2, ChainProblemKind.MISSING),
    ("DELETE FROM audit WHERE position > 2", 3, ChainProblemKind.TRUNCATED),
    ("DELETE FROM audit", 1, ChainProblemKind.TRUNCATED),
    ("UPDATE audit SET position = position + 10 WHERE position > 1", 2, ChainProblemKind.MISSING),
    ("UPDATE audit_chain SET hash = 'x'", 4, ChainProblemKind.CHANGED),
)


@pytest.mark.parametrize(("statement", "position", "kind"), TAMPERING)
def test_a_change_past_the_triggers_is_found(
    audited: AuditedDatabase, statement: str, position: int, kind: ChainProblemKind
) -> None:
    audited.add(1, 2, 3, 4)
    audited.sealer.seal()
    audited.execute_as_owner(statement)
    problem = audited.problem()
    assert problem is not None
    assert (problem.position, problem.kind) == (position, kind)


@pytest.mark.database("sqlite")
def test_a_row_whose_columns_have_other_types_counts_as_changed(audited: AuditedDatabase) -> None:
    """SQLite stores any value in any column."""
    audited.add(1, 2)
    audited.sealer.seal()
    for column in ("time", "changes", "count", "outcome"):
        audited.execute_as_owner(f"UPDATE audit SET {column} = 'no {{ json' WHERE position = 1")  # noqa: S608 - constants
        problem = audited.problem()
        assert problem is not None
        assert (problem.position, problem.kind) == (1, ChainProblemKind.CHANGED)


def test_the_removal_by_age_keeps_an_anchor(audited: AuditedDatabase) -> None:
    audited.add(*range(10, 16))
    audited.sealer.seal()
    with audited.database.read() as uow:
        third = uow.audit_chain.at(3)
    with audited.database.audit_chain() as chain:
        assert chain.remove_older(NOON + timedelta(seconds=13), 100) == 3
    with audited.database.audit_chain() as chain:
        assert chain.remove_older(NOON + timedelta(seconds=13), 100) == 0
    with audited.database.read() as uow:
        state = uow.audit_chain.state()
    assert third is not None
    assert third.entry is not None
    assert state.anchor == ChainLink(position=3, hash=third.entry.hash or "")
    assert audited.problem() is None
    audited.add(20)
    audited.sealer.seal()
    assert audited.problem() is None


def test_the_removal_by_age_removes_only_the_beginning(audited: AuditedDatabase) -> None:
    """The clock was set back between the entries: the second one is the oldest."""
    with audited.database.write() as uow:
        for number, seconds in enumerate((50, 10, 60)):
            uow.audit.add(audited.entry(number, seconds))
    audited.sealer.seal()
    with audited.database.audit_chain() as chain:
        assert chain.remove_older(NOON + timedelta(seconds=20), 100) == 0
    with audited.database.audit_chain() as chain:
        assert chain.remove_older(NOON + timedelta(seconds=55), 100) == 2


def _together(*operations: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(operations)) as executor:
        return [future.result() for future in [executor.submit(each) for each in operations]]


@pytest.mark.database("postgresql")
def test_an_entry_that_is_committed_after_later_ones_were_sealed_gets_the_next_position(
    audited: AuditedDatabase,
) -> None:
    with audited.database.write() as slow:
        slow.audit.add(audited.entry(1))
        audited.add(2)  # on another connection, committed first
        assert audited.sealer.seal() == 1
        assert audited.problem() is None
    assert audited.sealer.seal() == 1
    assert audited.order() == [audited.entry(number).id for number in (2, 1)]
    assert audited.problem() is None


@pytest.mark.database("postgresql")
def test_sealing_lets_no_concurrent_writer_fail(audited: AuditedDatabase) -> None:
    """The writer reads what the sealer has changed and adds what the sealer looks for; both commit."""
    audited.add(1)
    with audited.database.write() as uow:
        assert uow.audit.count({"actor": "ada"}) == 1
        with audited.database.audit_chain() as chain:
            state = chain.lock()
            [first] = chain.unsealed(10)
            uow.audit.add(audited.entry(2))
            assert [each.id for each in chain.unsealed(10)] == [first.id]
            assert state.head == ChainLink()
        assert audited.sealer.seal() == 1
    assert audited.sealer.seal() == 1
    assert audited.problem() is None


@pytest.mark.database("postgresql")
def test_a_second_sealer_waits_for_the_first_and_continues_its_chain(audited: AuditedDatabase) -> None:
    """Also one that was the leader until now: no entry is sealed twice, and the chain has no fork."""
    audited.add(1)
    with ThreadPoolExecutor(1) as executor:
        with audited.database.audit_chain() as chain:
            assert chain.lock().head.position == 0
            second = executor.submit(audited.sealer.seal)
            _wait_for_lock(audited.engine)
            assert not second.done()
            [entry] = chain.unsealed(10)
            audited.add(2)
            placed = entry.model_copy(update={"position": 1, "previous_hash": "0" * 64})
            chain.append([placed.model_copy(update={"hash": entry_hash(placed)})])
        wait([second])
    assert second.result() == 1
    assert audited.order() == [audited.entry(number).id for number in (1, 2)]
    assert audited.problem() is None


@pytest.mark.database("postgresql")
def test_many_writers_and_two_sealers_leave_one_intact_chain(audited: AuditedDatabase) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 20):
            audited.add(number)

    def seal_often() -> None:
        for _ in range(20):
            audited.sealer.seal()

    _together(*(partial(write, first) for first in (0, 100, 200)), seal_often, seal_often)
    while audited.sealer.seal():
        pass
    assert len(audited.order()) == 60
    assert audited.problem() is None


def _wait_for_lock(engine: Engine) -> None:
    """Wait until a connection waits for a lock."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(query):
            pass
