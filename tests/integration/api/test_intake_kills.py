"""A server that is killed at any statement of the transaction that accepts a job has stored all of its rows or none."""

import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event, func, inspect, select, table
from tests.fakes.harness import ControlPlaneHarness

from windlass.kit.failpoints import install

pytestmark = pytest.mark.processes
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])
_MIN_STATEMENTS = 10
_ACCEPTED_ROWS = {"job": 1, "idempotency_record": 1, "audit": 1, "lineage": 2}
"""Rows that a submission adds at least, by table."""
Counts = dict[str, int]


def test_killed_intake_leaves_all_rows_or_none_and_a_repeated_request_creates_one_job(tmp_path: Path) -> None:
    process = _PROCESSES.Process(target=_kill_at_every_statement, args=(tmp_path,))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    full = outcome["full"]
    assert {name: rows for name, rows in full.items() if name in _ACCEPTED_ROWS} == _ACCEPTED_ROWS
    assert outcome["after_commit"] == full
    killed = outcome["killed"]
    assert len(killed) >= _MIN_STATEMENTS, "the test sees the statements of the transaction"
    assert [added for added in killed if added] == [], "a kill before the commit leaves nothing"
    assert outcome["repeated"] == [full] * len(killed)
    assert outcome["repeated_after_commit"] == {}


def _kill_at_every_statement(home: Path) -> None:
    harness = ControlPlaneHarness(home)
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    submission = _Submission(harness)
    full = submission.rows_added("first")
    killed, repeated = [], []
    for number in itertools.count(1):
        key = f"killed-{number}"
        added = submission.rows_added_by_killed_process(key, partial(submission.kill_at_statement, number))
        if added is None:
            break  # the request has no statement with this number
        killed.append(added)
        repeated.append(submission.rows_added(key))
    after_commit = submission.rows_added_by_killed_process("committed", _kill_after_commit)
    outcome = {
        "full": full,
        "killed": killed,
        "repeated": repeated,
        "after_commit": after_commit,
        "repeated_after_commit": submission.rows_added("committed"),
    }
    (home / "outcome.json").write_text(json.dumps(outcome))
    harness.close()


class _Submission:
    """Submits jobs and counts the rows that each adds, by table; 0 is left out."""

    def __init__(self, harness: ControlPlaneHarness) -> None:
        self._harness = harness

    def _rows(self) -> Counts:
        with self._harness.engine.connect() as connection:
            names = inspect(connection).get_table_names()
            return {name: connection.scalar(select(func.count()).select_from(table(name))) or 0 for name in names}

    def _added(self, before: Counts) -> Counts:
        return {name: rows - before[name] for name, rows in self._rows().items() if rows != before[name]}

    def rows_added(self, key: str) -> Counts:
        before = self._rows()
        self._harness.submit("ours", key=key)
        return self._added(before)

    def rows_added_by_killed_process(self, key: str, arm: Callable[[], None]) -> Counts | None:
        """Submit in a copy of this process that is killed at the point that ``arm`` selects; None: it was not."""
        before = self._rows()
        self._harness.engine.dispose()  # a connection of SQLite must not be used in another process
        child = os.fork()
        if child == 0:
            arm()
            self._harness.submit("ours", key=key)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        return self._added(before) if os.WIFSIGNALED(status) else None

    def kill_at_statement(self, number: int) -> None:
        """Kill this process before the statement, or the commit, with this number within the request."""
        passed = itertools.count(1)

        def kill(*_: object) -> None:
            if next(passed) == number:
                _kill()

        event.listen(self._harness.engine, "before_cursor_execute", kill)
        event.listen(self._harness.engine, "commit", kill)


def _kill_after_commit() -> None:
    install(lambda name: _kill() if name == "job.submit.committed" else None)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # the signal is asynchronous
