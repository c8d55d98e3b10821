"""A server that is killed at any line of a job's way loses nothing and does nothing twice: real server and processes.

Only Ray and the trainer are stubs. The server dies at a failpoint, a second one continues, the client repeats its
request, and the job must end as if nothing had happened.
"""

import contextlib
import shutil
import signal
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.servers import ServerProcess, server
from tests.e2e.stub_training_server import RAY_ADDRESS_VARIABLE
from tests.failpoints import VARIABLE
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.errors import WindlassError
from windlass.sdk import Client, JobDetail

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]
SPEC = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}
POINTS = (
    "job.submit.before_commit",
    "job.submit.committed",
    "outbox.leased",
    "process.recorded",
    "process.started",
    "outbox.handled",
    "outbox.completed",
    "attempt.acquire.before_commit",
    "attempt.acquire.committed",
    "report.before_commit",
    "report.committed",
    "register.before_commit",
    "register.committed",
)


@dataclass
class FailingServer:
    """A server whose failpoints are armed while it runs."""

    server: ServerProcess
    actions: Path

    def kill_at(self, point: str) -> None:
        """Let the server die when it reaches the failpoint."""
        self.actions.write_text(f"{point}=kill")

    def wait_killed(self) -> None:
        process = self.server.process
        assert process is not None
        self.server.wait_until(lambda: process.poll() is not None, "the server is killed at the failpoint")
        assert process.returncode == -signal.SIGKILL
        self.actions.unlink()

    def rows(self, query: str, *arguments: str) -> list[Any]:
        """Return the first column of a query."""
        path = f"file:{self.server.home}/windlass.db?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as database:
            return [row[0] for row in database.execute(query, arguments)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingServer]:
    """One data directory for all tests: each kills the server that the previous one started."""
    root = tmp_path_factory.mktemp("failpoints")
    prepared = root / "prepared"
    prepared.mkdir()
    harness = ControlPlaneHarness(prepared)
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    harness.close()
    home = root / "home"
    shutil.copytree(prepared, home)
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as ray:
        settings = {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            VARIABLE: f"@{root / 'actions'}",
            RAY_ADDRESS_VARIABLE: f"127.0.0.1:{ray.getsockname()[1]}",
        }
        with server(home, (), **settings) as process:
            process.program = ("tests.failpoints", "tests.e2e.stub_training_server")
            yield FailingServer(process, root / "actions")


def submit(client: Client, key: str) -> str | None:
    """Submit the job of this key; None when the server dies before it replies."""
    try:
        return client.in_project("ours").jobs.create(SPEC | {"model": key}, idempotency_key=key).id
    except WindlassError:
        return None


@pytest.mark.parametrize("point", POINTS)
def test_a_server_killed_at_a_failpoint_loses_nothing_and_does_nothing_twice(
    running: FailingServer, point: str
) -> None:
    client = running.server.start()
    key = point.replace(".", "-").replace("_", "-")
    running.kill_at(point)
    accepted = submit(client, key)
    running.wait_killed()
    committed = running.rows("select id from job where json_extract(spec, '$.model') = ?", key)
    assert len(committed) == (point != "job.submit.before_commit")
    assert accepted in (None, *committed)

    client = running.server.start()
    job = submit(client, key)
    assert job is not None
    assert [job] == (committed or [job]), "a repeated request gets the job of the first one"
    done = client.in_project("ours").jobs.wait(job, timeout=120)
    assert_done_once(running, client, done, key)


def assert_done_once(running: FailingServer, client: Client, job: JobDetail, key: str) -> None:
    """Assert that one job was trained by one trainer and registered once, with one record of each step."""
    assert job.state == "succeeded", job.reason
    assert running.rows("select id from job where json_extract(spec, '$.model') = ?", key) == [job.id]
    assert running.rows("select subject from idempotency_record where key = ?", key) == [job.id]
    assert running.rows("select count(*) from audit where action = 'job.create' and subject = ?", job.id) == [1]
    assert [attempt.state for attempt in job.attempts] == ["finished"]
    starts = [running.server.home / "runs" / run.name / "trainer_starts" for run in job.runs]
    assert sum(file.stat().st_size for file in starts if file.exists()) == 1
    query = "select state from run where job = ? order by number desc limit 1"
    running.server.wait_until(lambda: running.rows(query, job.id) == ["succeeded"], "the run has succeeded")
    assert [version.number for version in client.in_project("ours").models.versions(key)] == [1]
    codes = [event.code for event in client.in_project("ours").jobs.events(job.id)]
    for code in ("job_accepted", "attempt_started", "training_started", "model_registered"):
        assert codes.count(code) == 1, codes
    running.server.wait_until(lambda: running.rows("select id from outbox") == [], "the outbox is empty")
