"""Nothing is lost or done twice when processes are killed: real server, real Ray, a small model."""

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
from tests.e2e.conftest import SPEC, furnish
from tests.e2e.servers import Server, free_port

from windlass.domain.errors import ConflictError
from windlass.sdk import Client
from windlass.sdk.resources.job_handles import JobDetail

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


def codes(client: Client, job: str) -> list[str]:
    return [event.code for event in client.jobs.events(job)]


def checkpointed(client: Client, job: str) -> bool:
    return any(True for _ in client.jobs.checkpoints(job))


def assert_whole(client: Client, job: JobDetail, attempts: int) -> None:
    """One version, every step once, attempts numbered without a gap, none still live."""
    assert job.state == "succeeded", job.reason
    assert [attempt.number for attempt in job.attempts] == list(range(1, attempts + 1))
    assert [attempt.state for attempt in job.attempts][-1] == "finished"
    series = {one.name: one for one in client.jobs.metrics(job.id).series}["train_loss"]
    assert series.steps == sorted(set(series.steps))
    assert series.steps[-1] == SPEC["training"]["max_steps"]
    assert [version.number for version in client.models.versions(job.spec.model)] == [1]
    assert [event.sequence for event in client.jobs.events(job.id)] == list(range(1, len(codes(client, job.id)) + 1))


def test_a_killed_server_finds_its_run_again_and_starts_no_second_trainer(one: Server, name: str) -> None:
    client = one.start()
    job = client.jobs.create(SPEC | {"model": name})
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    before = {process.pid for process in one.trainers()}
    one.kill()
    one.port = free_port()
    client = one.start()
    assert {process.pid for process in one.trainers()} <= before
    done = client.jobs.wait(job.id, timeout=240)
    assert_whole(client, done, attempts=1)
    assert [run.number for run in done.runs] == [1]


def test_a_killed_trainer_is_followed_by_an_attempt_that_resumes(one: Server, name: str) -> None:
    client = one.start()
    job = client.jobs.create(SPEC | {"model": name})
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    for process in one.trainers():
        process.kill()
    done = client.jobs.wait(job.id, timeout=240)
    assert_whole(client, done, attempts=2)
    assert done.attempts[0].state == "lost"
    assert (done.attempts[1].resumed_from_step or 0) >= 20
    assert [run.number for run in done.runs] == [1]


def test_after_the_whole_tree_was_killed_the_job_goes_on_from_its_checkpoint(one: Server, name: str) -> None:
    client = one.start()
    job = client.jobs.create(SPEC | {"model": name})
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    one.kill_everything()
    client = one.start()
    done = client.jobs.wait(job.id, timeout=240)
    assert_whole(client, done, attempts=2)
    assert [run.number for run in done.runs] == [1, 2]
    assert done.runs[0].state == "lost"
    assert (done.attempts[1].resumed_from_step or 0) >= 20


def test_stopping_the_server_leaves_no_process_and_no_port_and_the_job_goes_on_later(one: Server, name: str) -> None:
    client = one.start()
    job = client.jobs.create(SPEC | {"model": name})
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    assert one.stop(signal.SIGINT) == 0
    assert one.processes() == []
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", one.port))
    client = one.start()
    done = client.jobs.wait(job.id, timeout=240)
    assert_whole(client, done, attempts=2)
    assert "job_requeued" in codes(client, job.id)


def test_a_running_job_is_cancelled_and_its_slot_is_free_again(one: Server, name: str) -> None:
    client = one.start()
    job = client.jobs.create(SPEC | {"model": name, "training": SPEC["training"] | {"max_steps": 100_000}})
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    client.jobs.cancel(job.id)
    assert client.jobs.wait(job.id, timeout=60).state == "cancelled"
    assert one.trainers() == []
    assert client.pools.get("local").in_use == 0
    assert name not in {model.name for model in client.models.list()}


@pytest.mark.parametrize("seen", ["trained", "evaluated", "registered"])
def test_a_cancellation_that_races_completion_has_one_outcome(one: Server, name: str, seen: str) -> None:
    """Told at three moments near the end: the job is cancelled without a version, or done with one; never both."""
    client = one.start()
    job = client.jobs.create(SPEC | {"model": name, "training": SPEC["training"] | {"max_steps": 25}})
    moments = {
        "trained": lambda: checkpointed(client, job.id),
        "evaluated": lambda: "evaluation_finished" in codes(client, job.id),
        "registered": lambda: any(model.name == name for model in client.models.list()),
    }
    one.until(moments[seen], seen)
    with contextlib.suppress(ConflictError):
        client.jobs.cancel(job.id)
    done = client.jobs.wait(job.id, timeout=60)
    one.until(lambda: one.trainers() == [] and client.pools.get("local").in_use == 0, "the slot is free")
    versions = [v.number for model in client.models.list() if model.name == name for v in client.models.versions(name)]
    assert (client.jobs.get(job.id).state, versions) in [("cancelled", []), ("succeeded", [1])]
    assert client.jobs.get(job.id).state == done.state


def test_a_job_whose_reply_was_lost_is_not_made_twice(one: Server, name: str) -> None:
    """The server dies after the commit; the client asks again with the same key, as the SDK does by itself."""
    client = one.start()
    body = json.dumps({"spec": SPEC | {"model": name, "training": SPEC["training"] | {"max_steps": 5}}}).encode()
    admin = (one.home / "admin.key").read_text().strip()
    head = (
        f"POST /v1/projects/default/jobs HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\nAuthorization: Bearer {admin}\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: {name}\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    def committed() -> list[str]:
        with contextlib.closing(sqlite3.connect(f"file:{one.home}/windlass.db?mode=ro", uri=True)) as database:
            rows = database.execute("select id from job where json_extract(spec, '$.model') = ?", [name])
            return [row[0] for row in rows]

    with socket.create_connection(("127.0.0.1", one.port)) as connection:
        connection.sendall(head.encode() + body)
        [first] = one.until(committed, "the job is committed")
        one.kill()
    one.start()
    with httpx2.Client(base_url=f"http://127.0.0.1:{one.port}") as again:
        headers = {"Authorization": f"Bearer {admin}", "Content-Type": "application/json", "Idempotency-Key": name}
        reply = again.post("/v1/projects/default/jobs", content=body, headers=headers)
    assert (reply.status_code, reply.json()["id"]) == (202, first)
    assert committed() == [first]
    assert client.jobs.wait(first, timeout=240).state == "succeeded"
    assert [version.number for version in client.models.versions(name)] == [1]


def test_borrowed_slots_are_reclaimed_and_the_preempted_job_finishes(one: Server, tiny: Path, tmp_path: Path) -> None:
    client = one.start()
    for project in ("lender", "borrower"):
        client.projects.create(project, cohort="lab")
        client.in_project(project).quotas.set("local", 1)
        furnish(client, tiny, tmp_path, project)
    client.quotas.set("local", 0)
    borrower, lender = client.in_project("borrower"), client.in_project("lender")
    long = SPEC | {"training": SPEC["training"] | {"max_steps": 800}}
    jobs = [borrower.jobs.create(long | {"model": model}) for model in ("first", "second")]
    one.until(lambda: all(checkpointed(borrower, job.id) for job in jobs), "both train, one on a borrowed slot")
    assert next(iter(borrower.quotas.list())).borrowed_from == {"lender": 1}
    own = lender.jobs.create(SPEC | {"model": "own"})
    assert lender.jobs.wait(own.id, timeout=240).state == "succeeded"
    ended = [borrower.jobs.wait(job.id, timeout=300) for job in jobs]
    assert [job.state for job in ended] == ["succeeded", "succeeded"]
    preempted = [job for job in ended if len(job.attempts) > 1]
    assert len(preempted) == 1
    assert preempted[0].attempts[0].state == "stopped"
    assert (preempted[0].attempts[1].resumed_from_step or 0) >= 20
    assert "job_preempted" in codes(borrower, preempted[0].id)
    client.quotas.set("local", 2)


def test_a_second_server_on_one_data_folder_is_refused(one: Server) -> None:
    second = _start(one.home, 0)
    assert second.returncode == 5
    assert one.process is not None
    assert f"pid {one.process.pid}" in second.stderr


def test_a_taken_port_is_refused_with_the_way_out(one: Server, tmp_path: Path) -> None:
    other = _start(tmp_path / "other", one.port)
    assert other.returncode == 7
    assert "--port" in other.stderr


def _start(home: Path, port: int) -> Any:
    argv = [sys.executable, "-P", "-m", "windlass_api.embedded", "--home", str(home), "--port", str(port)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
