"""Deleted projects and jobs are gone at once; their rows go in chunks, their files after the rows."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import MetaData, String, cast, text
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

from windlass.domain.records import Tombstone
from windlass.ports import BackendState
from windlass.services.retention import CHUNK_ROWS

JOBS = "/v1/projects/ours/jobs"


def end_job(harness: ControlPlaneHarness, key: str = "1") -> tuple[str, SimulatedRun]:
    """Start a job, let it report and cancel it."""
    job = harness.submit("ours", key=key)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    run.report(1, {"type": "metric", "name": "loss", "step": 1, "value": 0.5}, {"type": "log", "text": "hello"})
    harness.client.post(f"{JOBS}/{job['id']}:cancel")
    return job["id"], run


def end_run(harness: ControlPlaneHarness, run: SimulatedRun) -> None:
    """Let the worker see that the run has ended."""
    harness.pipelines.end(run.name, BackendState.STOPPED)
    harness.run_worker_once(2)


def add_events(harness: ControlPlaneHarness, project: str, job: str, count: int) -> None:
    rows = [{"job": job, "sequence": 1000 + number, "project": project} for number in range(count)]
    with harness.engine.begin() as connection:
        columns = "job, sequence, project, time, code, message, context"
        connection.execute(
            text(f"INSERT INTO event ({columns}) VALUES (:job, :sequence, :project, 0, 'x', '', '{{}}')"),  # noqa: S608 - constants
            rows,
        )


def count_rows(harness: ControlPlaneHarness, column: str, value: str) -> dict[str, int]:
    """Return the number of rows by table whose ``column`` has this value."""
    schema = MetaData()
    schema.reflect(harness.engine)
    with harness.engine.connect() as connection:
        found = {
            table.name: connection.execute(table.select().where(cast(table.c[column], String) == value)).all()
            for table in schema.sorted_tables
            if column in table.c
        }
    return {name: len(rows) for name, rows in found.items() if rows}


def delete_project(harness: ControlPlaneHarness) -> None:
    etag = harness.client.get("/v1/projects/ours").headers["ETag"]
    assert harness.client.delete("/v1/projects/ours", headers={"If-Match": etag}).status_code == 200


def delete_project_with_events(harness: ControlPlaneHarness, count: int) -> tuple[str, str]:
    """Delete a project with a job that has many events; return the uid of the project and the id of the job."""
    job, run = end_job(harness)
    end_run(harness, run)
    with harness.database.read() as uow:
        uid = uow.projects.get({"name": "ours"}).id
    add_events(harness, uid, job, count)
    delete_project(harness)
    return uid, job


@pytest.mark.database("sqlite", "postgresql")
def test_a_deleted_project_is_gone_at_once_and_its_rows_and_files_later(ready: ControlPlaneHarness) -> None:
    end_run(ready, end_job(ready)[1])
    bob = ready.client_for_user("bob", project="ours")
    with ready.database.read() as uow:
        uid = uow.projects.get({"name": "ours"}).id
    delete_project(ready)
    assert ready.client.get(JOBS).status_code == 404
    assert bob.get("/v1/projects").status_code == 401, "the keys of the project are deleted in the request"
    assert ready.client.get("/v1/projects").json()["items"] == []
    assert count_rows(ready, "project", uid)["job"] == 1
    assert (ready.store_folder / f"projects/{uid}").exists()
    assert ready.client.post("/v1/projects", json={"name": "ours"}).status_code == 201
    ready.delete_expired()
    assert set(count_rows(ready, "project", uid)) == {"audit"}
    assert count_rows(ready, "id", uid) == {}
    assert not (ready.store_folder / f"projects/{uid}").exists()
    assert [project["name"] for project in ready.client.get("/v1/projects").json()["items"]] == ["ours"]


def test_each_chunk_of_a_large_project_is_small_and_a_restart_continues(ready: ControlPlaneHarness) -> None:
    uid, job = delete_project_with_events(ready, 100_000)
    chunks = []
    for _ in range(8):
        with ready.database.write() as uow:
            chunks.append(uow.tombstones.delete_rows(Tombstone(project=uid), CHUNK_ROWS))
    assert chunks == [CHUNK_ROWS] * 8
    assert count_rows(ready, "job", job)["event"] > 50_000, "a killed worker leaves the rest"
    ready.retention = replace(ready.retention)  # what a restarted worker has
    ready.delete_expired()
    assert set(count_rows(ready, "project", uid)) == {"audit"}
    assert count_rows(ready, "job", job) == {}


def test_another_writer_waits_for_at_most_one_chunk(ready: ControlPlaneHarness) -> None:
    uid, _ = delete_project_with_events(ready, 60_000)
    chunks: list[int] = []

    def delete_all() -> None:
        while not chunks or chunks[-1]:
            with ready.database.write() as uow:
                chunks.append(uow.tombstones.delete_rows(Tombstone(project=uid), 500))

    thread = threading.Thread(target=delete_all)
    thread.start()
    waited = []
    while thread.is_alive():
        before = len(chunks)
        with ready.database.write():
            waited.append(len(chunks) - before)
    thread.join()
    assert len(waited) > 20
    assert max(waited) <= 2, "the chunk that ran and one that began before this writer was in the queue"


@pytest.mark.database("sqlite", "postgresql")
def test_an_ended_job_is_deleted_with_all_rows_and_files(ready: ControlPlaneHarness) -> None:
    job, run = end_job(ready)
    url = f"{JOBS}/{job}"
    assert ready.client.delete(url).status_code == 409, "its run has not ended"
    end_run(ready, run)
    planned = ready.client.delete(url, params={"dry_run": True}).json()
    assert planned["stored_bytes"] > 0
    assert ready.client.get(url).status_code == 200
    assert ready.client.delete(url).json() == planned
    for path in (url, f"{url}/events", f"{url}/metrics", f"{url}/logs", f"{url}/checkpoints"):
        assert ready.client.get(path).status_code == 404, path
    assert ready.client.delete(url).status_code == 404
    assert ready.client.get(JOBS).json()["items"] == []
    ready.delete_expired()
    assert count_rows(ready, "job", job) == {}
    assert count_rows(ready, "id", job) == {}
    assert not list(ready.store.keys(ready.key(run.locations.artifacts).rpartition("/")[0]))


def test_a_job_with_a_registered_model_version_is_kept(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    assert run.finish(1).status_code == 200
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.run_worker_once(2)
    refused = ready.client.delete(f"{JOBS}/{job['id']}")
    assert refused.status_code == 409
    assert "classifier@1" in refused.json()["detail"]
    assert ready.client.delete("/v1/projects/ours/models/classifier/versions/1").status_code == 200
    assert ready.client.delete(f"{JOBS}/{job['id']}").status_code == 200


@pytest.mark.parametrize("days", [None, 10])
def test_audit_entries_are_kept_unless_a_retention_is_set(ready: ControlPlaneHarness, days: int | None) -> None:
    ready.retention.audit_retention = None if days is None else timedelta(days=days)
    ready.worker.seal_audit()
    before = len(ready.client.get("/v1/audit").json()["items"])
    ready.clock.advance(11 * 24 * 3600)
    ready.delete_expired()
    assert len(ready.client.get("/v1/audit").json()["items"]) == (before if days is None else 0)
    verified = ready.client.get("/v1/audit/verification").json()
    assert (verified["problem"], verified["anchor"]["position"]) == (None, 0 if days is None else before)
    assert verified["head"]["position"] == before
