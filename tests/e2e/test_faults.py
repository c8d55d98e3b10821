"""Nothing is lost or done twice when processes are killed: real server, real Ray, a small model."""

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import SPEC, furnish
from tests.e2e.servers import Server

from windlass.sdk import Client
from windlass.sdk.resources.job_handles import JobDetail

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600), pytest.mark.xdist_group("ray")]


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
    assert [version.number for version in client.models.versions("tuned")] == [1]
    assert [event.sequence for event in client.jobs.events(job.id)] == list(range(1, len(codes(client, job.id)) + 1))


def test_a_killed_server_finds_its_run_again_and_starts_no_second_trainer(
    one: Server, tiny: Path, tmp_path: Path
) -> None:
    client = one.start()
    furnish(client, tiny, tmp_path)
    job = client.jobs.create(SPEC)
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    before = {process.pid for process in one.trainers()}
    one.kill()
    client = one.start()
    assert {process.pid for process in one.trainers()} <= before
    done = client.jobs.wait(job.id, timeout=240)
    assert_whole(client, done, attempts=1)
    assert [run.number for run in done.runs] == [1]


def test_a_killed_trainer_is_followed_by_an_attempt_that_resumes(one: Server, tiny: Path, tmp_path: Path) -> None:
    client = one.start()
    furnish(client, tiny, tmp_path)
    job = client.jobs.create(SPEC)
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    for process in one.trainers():
        process.kill()
    done = client.jobs.wait(job.id, timeout=240)
    assert_whole(client, done, attempts=2)
    assert done.attempts[0].state == "lost"
    assert (done.attempts[1].resumed_from_step or 0) >= 20
    assert [run.number for run in done.runs] == [1]


def test_after_the_whole_tree_was_killed_the_job_goes_on_from_its_checkpoint(
    one: Server, tiny: Path, tmp_path: Path
) -> None:
    client = one.start()
    furnish(client, tiny, tmp_path)
    job = client.jobs.create(SPEC)
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    one.kill_everything()
    client = one.start()
    done = client.jobs.wait(job.id, timeout=240)
    assert_whole(client, done, attempts=2)
    assert [run.number for run in done.runs] == [1, 2]
    assert done.runs[0].state == "lost"
    assert (done.attempts[1].resumed_from_step or 0) >= 20


def test_stopping_the_server_leaves_no_process_and_no_port_and_the_job_goes_on_later(
    one: Server, tiny: Path, tmp_path: Path
) -> None:
    client = one.start()
    furnish(client, tiny, tmp_path)
    job = client.jobs.create(SPEC)
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


def test_a_running_job_is_cancelled_and_its_slot_is_free_again(one: Server, tiny: Path, tmp_path: Path) -> None:
    client = one.start()
    furnish(client, tiny, tmp_path)
    job = client.jobs.create(SPEC | {"training": SPEC["training"] | {"max_steps": 100_000}})
    one.until(lambda: checkpointed(client, job.id), "a checkpoint")
    client.jobs.cancel(job.id)
    assert client.jobs.wait(job.id, timeout=60).state == "cancelled"
    assert one.trainers() == []
    assert client.pools.get("local").in_use == 0
    assert list(client.models.list()) == []


def test_borrowed_slots_are_reclaimed_and_the_preempted_job_finishes(one: Server, tiny: Path, tmp_path: Path) -> None:
    client = one.start()
    for name in ("lender", "borrower"):
        client.projects.create(name, cohort="lab")
        client.in_project(name).quotas.set("local", 1)
        furnish(client, tiny, tmp_path, name)
    client.quotas.set("local", 0)
    borrower, lender = client.in_project("borrower"), client.in_project("lender")
    long = SPEC | {"training": SPEC["training"] | {"max_steps": 1500}}
    jobs = [borrower.jobs.create(long | {"model": name}) for name in ("first", "second")]
    one.until(lambda: all(checkpointed(borrower, job.id) for job in jobs), "both train, one on a borrowed slot")
    assert next(iter(borrower.quotas.list())).borrowed_from == {"lender": 1}
    own = lender.jobs.create(SPEC)
    assert lender.jobs.wait(own.id, timeout=240).state == "succeeded"
    ended = [borrower.jobs.wait(job.id, timeout=300) for job in jobs]
    assert [job.state for job in ended] == ["succeeded", "succeeded"]
    preempted = [job for job in ended if len(job.attempts) > 1]
    assert len(preempted) == 1
    assert preempted[0].attempts[0].state == "stopped"
    assert (preempted[0].attempts[1].resumed_from_step or 0) >= 20
    assert "job_preempted" in codes(borrower, preempted[0].id)


def test_a_second_server_on_one_data_folder_is_refused(one: Server) -> None:
    one.start()
    second = _start(one.home, 0)
    assert second.returncode == 5
    assert f"pid {one.process.pid}" in second.stderr if one.process else False


def test_a_taken_port_is_refused_with_the_way_out(one: Server, tmp_path: Path) -> None:
    one.start()
    other = _start(tmp_path / "other", one.port)
    assert other.returncode == 7
    assert "--port" in other.stderr


def _start(home: Path, port: int) -> Any:
    argv = [sys.executable, "-P", "-m", "windlass_api.embedded", "--home", str(home), "--port", str(port)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
