"""Killed processes lose and repeat nothing: real server, real Ray, a small model."""

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.servers import ServerProcess, free_port
from tests.factories.small_jobs import SPEC, ensure_test_data

from windlass.domain.errors import ConflictError
from windlass.sdk import Client, JobDetail

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


def event_codes(client: Client, job: str) -> list[str]:
    return [event.code for event in client.jobs.events(job)]


def has_checkpoint(client: Client, job: str) -> bool:
    return any(True for _ in client.jobs.checkpoints(job))


def assert_complete(client: Client, job: JobDetail, attempts: int) -> None:
    """Assert one version, each step once, attempts without gaps, and that the last one finished."""
    assert job.state == "succeeded", job.reason
    assert [attempt.number for attempt in job.attempts] == list(range(1, attempts + 1))
    assert [attempt.state for attempt in job.attempts][-1] == "finished"
    series = {item.name: item for item in client.jobs.metrics(job.id).series}["train_loss"]
    assert series.steps == sorted(set(series.steps))
    assert series.steps[-1] == SPEC["training"]["max_steps"]
    assert [version.number for version in client.models.versions(job.spec.model)] == [1]
    assert [event.sequence for event in client.jobs.events(job.id)] == list(
        range(1, len(event_codes(client, job.id)) + 1)
    )


def test_restarted_server_adopts_its_run_without_a_second_trainer(running_server: ServerProcess, name: str) -> None:
    client = running_server.start()
    job = client.jobs.create(SPEC | {"model": name})
    running_server.wait_until(lambda: has_checkpoint(client, job.id), "a checkpoint")
    before = {process.pid for process in running_server.trainers()}
    running_server.kill()
    running_server.port = free_port()
    client = running_server.start()
    assert {process.pid for process in running_server.trainers()} <= before
    done = client.jobs.wait(job.id, timeout=240)
    assert_complete(client, done, attempts=1)
    assert [run.number for run in done.runs] == [1]


def test_killed_trainer_is_replaced_by_an_attempt_that_resumes(running_server: ServerProcess, name: str) -> None:
    client = running_server.start()
    job = client.jobs.create(SPEC | {"model": name})
    running_server.wait_until(lambda: has_checkpoint(client, job.id), "a checkpoint")
    for process in running_server.trainers():
        process.kill()
    done = client.jobs.wait(job.id, timeout=240)
    assert_complete(client, done, attempts=2)
    assert done.attempts[0].state == "lost"
    assert (done.attempts[1].resumed_from_step or 0) >= 20
    assert [run.number for run in done.runs] == [1]


def test_job_resumes_from_its_checkpoint_after_the_process_tree_was_killed(
    running_server: ServerProcess, name: str
) -> None:
    client = running_server.start()
    job = client.jobs.create(SPEC | {"model": name})
    running_server.wait_until(lambda: has_checkpoint(client, job.id), "a checkpoint")
    running_server.kill_everything()
    client = running_server.start()
    done = client.jobs.wait(job.id, timeout=240)
    assert_complete(client, done, attempts=2)
    assert [run.number for run in done.runs] == [1, 2]
    assert done.runs[0].state == "lost"
    assert (done.attempts[1].resumed_from_step or 0) >= 20


def test_stopped_server_leaves_no_process_or_port_and_the_job_resumes_later(
    running_server: ServerProcess, name: str
) -> None:
    client = running_server.start()
    job = client.jobs.create(SPEC | {"model": name})
    running_server.wait_until(lambda: has_checkpoint(client, job.id), "a checkpoint")
    assert running_server.stop(signal.SIGINT) == 0
    assert running_server.processes() == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", running_server.port))
    client = running_server.start()
    done = client.jobs.wait(job.id, timeout=240)
    assert_complete(client, done, attempts=2)
    assert "job_requeued" in event_codes(client, job.id)


def test_cancelled_job_releases_its_slot(running_server: ServerProcess, name: str) -> None:
    client = running_server.start()
    job = client.jobs.create(SPEC | {"model": name, "training": SPEC["training"] | {"max_steps": 100_000}})
    running_server.wait_until(lambda: has_checkpoint(client, job.id), "a checkpoint")
    client.jobs.cancel(job.id)
    assert client.jobs.wait(job.id, timeout=60).state == "cancelled"
    assert running_server.trainers() == []
    assert client.pools.get("local").in_use == 0
    assert name not in {model.name for model in client.models.list()}


@pytest.mark.parametrize("moment", ["trained", "evaluated", "registered"])
def test_cancellation_racing_completion_has_one_result(running_server: ServerProcess, name: str, moment: str) -> None:
    """Cancel at three moments near the end: the job is cancelled without a version, or succeeds with one."""
    client = running_server.start()
    job = client.jobs.create(SPEC | {"model": name, "training": SPEC["training"] | {"max_steps": 25}})
    moments = {
        "trained": lambda: has_checkpoint(client, job.id),
        "evaluated": lambda: "evaluation_finished" in event_codes(client, job.id),
        "registered": lambda: any(model.name == name for model in client.models.list()),
    }
    running_server.wait_until(moments[moment], moment)
    with contextlib.suppress(ConflictError):
        client.jobs.cancel(job.id)
    done = client.jobs.wait(job.id, timeout=60)
    running_server.wait_until(
        lambda: running_server.trainers() == [] and client.pools.get("local").in_use == 0, "the slot is free"
    )
    versions = [v.number for model in client.models.list() if model.name == name for v in client.models.versions(name)]
    assert (client.jobs.get(job.id).state, versions) in [("cancelled", []), ("succeeded", [1])]
    assert client.jobs.get(job.id).state == done.state


def test_retry_after_a_lost_response_creates_no_second_job(running_server: ServerProcess, name: str) -> None:
    """The server dies after the commit; the client retries with the same key, as the SDK does."""
    client = running_server.start()
    body = json.dumps({"spec": SPEC | {"model": name, "training": SPEC["training"] | {"max_steps": 5}}}).encode()
    admin = (running_server.home / "admin.key").read_text().strip()
    head = (
        f"POST /v1/projects/default/jobs HTTP/1.1\r\nHost: 127.0.0.1:{running_server.port}\r\n"
        f"Authorization: Bearer {admin}\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: {name}\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    def committed_jobs() -> list[str]:
        with contextlib.closing(
            sqlite3.connect(f"file:{running_server.home}/windlass.db?mode=ro", uri=True)
        ) as database:
            rows = database.execute("select id from job where json_extract(spec, '$.model') = ?", [name])
            return [row[0] for row in rows]

    with socket.create_connection(("127.0.0.1", running_server.port)) as connection:
        connection.sendall(head.encode() + body)
        [first] = running_server.wait_until(committed_jobs, "the job is committed")
        running_server.kill()
    running_server.start()
    with httpx2.Client(base_url=f"http://127.0.0.1:{running_server.port}") as retry_client:
        headers = {"Authorization": f"Bearer {admin}", "Content-Type": "application/json", "Idempotency-Key": name}
        reply = retry_client.post("/v1/projects/default/jobs", content=body, headers=headers)
    assert (reply.status_code, reply.json()["id"]) == (202, first)
    assert committed_jobs() == [first]
    assert client.jobs.wait(first, timeout=240).state == "succeeded"
    assert [version.number for version in client.models.versions(name)] == [1]


def test_borrowed_slots_are_reclaimed_and_the_preempted_job_finishes(
    running_server: ServerProcess, tiny: Path, tmp_path: Path
) -> None:
    client = running_server.start()
    for project in ("lender", "borrower"):
        client.projects.create(project, cohort="lab")
        client.in_project(project).quotas.set("local", 1)
        ensure_test_data(client, tiny, tmp_path, project)
    client.quotas.set("local", 0)
    borrower, lender = client.in_project("borrower"), client.in_project("lender")
    long = SPEC | {"training": SPEC["training"] | {"max_steps": 800}}
    jobs = [borrower.jobs.create(long | {"model": model}) for model in ("first", "second")]
    running_server.wait_until(
        lambda: all(has_checkpoint(borrower, job.id) for job in jobs), "both train, one on a borrowed slot"
    )
    assert next(iter(borrower.quotas.list())).borrowed_from == {"lender": 1}
    own = lender.jobs.create(SPEC | {"model": "own"})
    assert lender.jobs.wait(own.id, timeout=240).state == "succeeded"
    ended = [borrower.jobs.wait(job.id, timeout=300) for job in jobs]
    assert [job.state for job in ended] == ["succeeded", "succeeded"]
    preempted = [job for job in ended if len(job.attempts) > 1]
    assert len(preempted) == 1
    assert preempted[0].attempts[0].state == "stopped"
    assert (preempted[0].attempts[1].resumed_from_step or 0) >= 20
    assert "job_preempted" in event_codes(borrower, preempted[0].id)
    client.quotas.set("local", 2)


def test_second_server_on_one_data_directory_is_rejected(running_server: ServerProcess) -> None:
    second = _run_server(running_server.home, 0)
    assert second.returncode == 5
    assert running_server.process is not None
    assert f"pid {running_server.process.pid}" in second.stderr


def test_port_in_use_is_rejected_with_a_hint(running_server: ServerProcess, tmp_path: Path) -> None:
    other = _run_server(tmp_path / "other", running_server.port)
    assert other.returncode == 7
    assert "--port" in other.stderr


def _run_server(home: Path, port: int) -> Any:
    argv = [sys.executable, "-P", "-m", "windlass_api.embedded", "--home", str(home), "--port", str(port)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
