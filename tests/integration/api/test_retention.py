"""Retention: which data is deleted and which is kept."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

from windlass.domain.models import BaseModelState
from windlass.orchestration import processes
from windlass.ports import BackendState
from windlass.services import retention

DAY = 24 * 3600


def create_run_folder(harness: ControlPlaneHarness, run: SimulatedRun) -> Path:
    """Create the folder of a run."""
    folder = harness.home / "runs" / run.name
    folder.mkdir(parents=True)
    (folder / "context.json").write_text("a token")
    return folder


def checkpoint(harness: ControlPlaneHarness, run: SimulatedRun, step: int, attempt: int = 1) -> Path:
    """Commit and report a checkpoint; return its folder."""
    manifest = harness.write_artifact(run.checkpoint(attempt, step))
    item = {"type": "checkpoint", "step": step, "manifest": manifest.model_dump()}
    assert run.report(attempt, item).status_code == 200
    return harness.store_folder / run.checkpoint(attempt, step)


def checkpoint_steps(harness: ControlPlaneHarness, job: dict[str, Any]) -> list[int]:
    items = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/checkpoints").json()["items"]
    return [item["step"] for item in items]


def start_run(harness: ControlPlaneHarness, key: str = "1") -> tuple[dict[str, Any], SimulatedRun]:
    job = harness.submit("ours", key=key)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    assert run.acquire_attempt().status_code == 200
    return job, run


def test_only_model_and_log_of_an_ended_job_are_retained(ready: ControlPlaneHarness) -> None:
    job, run = start_run(ready)
    folder = create_run_folder(ready, run)
    run.report(1, {"type": "log", "text": "hello"})
    saved = checkpoint(ready, run, 2)
    ready.pipelines.end(run.name, BackendState.LOST, "gone")
    ready.run_worker_once(2)
    again = ready.simulated_run(job)
    again.acquire_attempt("t2")
    ready.write_artifact(again.artifact(1))  # written by an attempt that was lost before registration
    again.finish(2)
    ready.pipelines.end(again.name, BackendState.SUCCEEDED)
    ready.run_worker_once()
    ready.delete_expired()
    assert folder.exists()
    assert checkpoint_steps(ready, job) == [2]
    ready.clock.advance(DAY + 60)
    ready.delete_expired()
    assert not folder.exists()
    assert not saved.exists()
    assert checkpoint_steps(ready, job) == []
    assert not (ready.store_folder / again.artifact(1)).exists()
    assert ready.client.get("/v1/projects/ours/models/classifier/versions/1/files/report.html").status_code == 200
    assert "hello" in ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/logs").text


def test_drafts_of_killed_processes_are_deleted(ready: ControlPlaneHarness) -> None:
    job, run = start_run(ready)
    artifacts = ready.key(run.locations.artifacts)
    ready.write_artifact(f"{artifacts}/.1.0badcafe.tmp")  # left by a trainer that was killed
    ready.write_artifact("base-models/.bm_gone.0badcafe.tmp")
    with ready.database.write() as uow:
        entry = uow.base_models.get({"name": "tiny"}).model_copy(update={"id": "bm_busy", "name": "busy"})
        uow.base_models.add(entry.model_copy(update={"state": BaseModelState.IMPORTING}))
    ready.write_artifact("base-models/.bm_busy.0badcafe.tmp")
    ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel")
    ready.pipelines.end(run.name, BackendState.STOPPED)
    ready.run_worker_once(2)
    ready.clock.advance(DAY + 60)
    ready.delete_expired()
    assert not list(ready.store.keys(artifacts))
    assert {key.split("/")[1] for key in ready.store.keys("base-models")} == {".bm_busy.0badcafe.tmp"}


def test_a_step_is_bounded_and_the_next_one_continues(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_JOBS", 2)
    jobs = [ready.submit("ours", key=str(number))["id"] for number in range(5)]
    for job in jobs:
        ready.client.post(f"/v1/projects/ours/jobs/{job}:cancel")
    ready.clock.advance(DAY + 60)

    def pending() -> int:
        with ready.database.read() as uow:
            return uow.all_projects().jobs.count({"cleaned_up_at": None})

    seen = []
    for _ in range(4):
        ready.retention.step()
        seen.append(pending())
    assert seen == [3, 1, 0, 0]


def test_events_and_log_of_an_ended_job_are_deleted_after_a_year(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHUNK_ROWS", 3)
    job, run = start_run(ready)
    for line in range(5):
        metric = {"type": "metric", "name": "loss", "step": line, "value": 1}
        run.report(1, {"type": "log", "text": f"line {line}"}, metric)
    run.finish(1)
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.run_worker_once()
    url = f"/v1/projects/ours/jobs/{job['id']}"
    last = ready.client.get(f"{url}/events?limit=100").json()["items"][-1]["sequence"]
    ready.clock.advance(364 * DAY)
    ready.delete_expired()
    assert "line 4" in ready.client.get(f"{url}/logs").text
    ready.clock.advance(2 * DAY)
    ready.delete_expired()
    log = ready.client.get(f"{url}/logs")
    assert (log.text, log.headers["Windlass-Log-End"]) == ("", "true")
    [event] = ready.client.get(f"{url}/events").json()["items"]
    assert (event["code"], event["sequence"]) == ("history_deleted", last + 1)
    [series] = ready.client.get(f"{url}/metrics").json()["series"]
    assert series["total"] == 5
    assert not list(ready.store.keys(f"projects/{project_id(ready)}/jobs/{job['id']}/log"))
    ready.delete_expired()
    assert [event] == ready.client.get(f"{url}/events").json()["items"], "it is deleted once"


def project_id(harness: ControlPlaneHarness) -> str:
    with harness.database.read() as uow:
        return uow.projects.get({"name": "ours"}).id


def test_job_with_an_active_run_is_not_cleaned_up(ready: ControlPlaneHarness) -> None:
    job, run = start_run(ready)
    folder = create_run_folder(ready, run)
    saved = checkpoint(ready, run, 2)
    run.finish(1)
    assert ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"] == "succeeded"
    ready.clock.advance(DAY + 60)
    ready.delete_expired()
    assert folder.exists()
    assert saved.exists()


def test_failed_deletion_is_retried_and_does_not_block_others(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    for key in ("1", "2"):
        job, run = start_run(ready, key)
        checkpoint(ready, run, 2)
        ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel")
        ready.pipelines.end(run.name, BackendState.STOPPED)
        ready.run_worker_once(2)
        jobs.append((job, create_run_folder(ready, run)))
    ready.clock.advance(DAY + 60)
    original_delete = ready.retention.folders.delete

    def fail_for_first(name: str) -> None:
        if name == jobs[0][1].name:
            raise OSError("busy")
        original_delete(name)

    with monkeypatch.context() as patched:
        patched.setattr(ready.retention.folders, "delete", fail_for_first)
        with pytest.raises(OSError, match="busy"):
            ready.retention.sweep()
    assert [folder.exists() for _, folder in jobs] == [True, False]
    ready.delete_expired()
    assert [folder.exists() for _, folder in jobs] == [False, False]


def test_a_pruned_checkpoint_is_hidden_before_its_files_are_deleted(ready: ControlPlaneHarness) -> None:
    job, run = start_run(ready)
    first, *_ = [checkpoint(ready, run, step) for step in (1, 2, 3)]
    report = {"source": "driver", "sequence": 1, "items": [{"type": "checkpoint_pruned", "step": 1, "attempt": 1}]}
    assert run.post("attempts/1/reports", report).status_code == 200
    assert checkpoint_steps(ready, job) == [2, 3]
    assert first.exists(), "the trainer deletes them after the reply"


def test_run_folders_of_a_deleted_project_are_deleted(ready: ControlPlaneHarness) -> None:
    _, run = start_run(ready)
    folder = create_run_folder(ready, run)
    run.finish(1)
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.run_worker_once()
    ready.delete_expired()
    assert folder.exists()
    assert ready.client.delete("/v1/projects/ours", headers={"If-Match": '"1"'}).status_code == 200
    ready.delete_expired()
    assert not folder.exists()


def test_idempotency_key_expires(ready: ControlPlaneHarness) -> None:
    first = ready.submit("ours", key="k")
    ready.client.post(f"/v1/projects/ours/jobs/{first['id']}:cancel")
    ready.clock.advance(6 * DAY)
    ready.delete_expired()
    assert ready.submit("ours", key="k")["id"] == first["id"]
    ready.clock.advance(2 * DAY)
    ready.delete_expired()
    assert ready.submit("ours", key="k")["id"] != first["id"]


def test_sweep_runs_at_most_once_a_minute(ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps: list[int] = []
    monkeypatch.setattr(type(ready.retention), "sweep", lambda _: sweeps.append(1))
    for _ in range(3):
        ready.retention.step()
        ready.clock.advance(40)
    assert len(sweeps) == 2


@pytest.mark.processes
def test_deleting_a_run_folder_stops_its_processes(ready: ControlPlaneHarness, tmp_path: Path) -> None:
    folder = ready.home / "runs" / "job-1-r1"
    folder.mkdir(parents=True)
    record = processes.start(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        environment=processes.clean_environment({}),
        log=tmp_path / "log",
        record=processes.new_record(),
    )
    record.save(folder / "process.json")
    ready.retention.folders.delete("job-1-r1")
    assert not processes.is_alive(record)
    assert not folder.exists()
    for name in ("..", ".", "", "../runs"):
        ready.retention.folders.delete(name)
    assert (ready.home / "windlass.db").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(record.pid or 0, signal.SIG_DFL)
