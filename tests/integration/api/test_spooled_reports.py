"""Reports spooled while the control plane was unavailable are flushed when the run is found dead."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.errors import FencedError, UnavailableError
from windlass.domain.reports import ReportBatch, ReportReply
from windlass.ports import BackendState
from windlass.runtime.flush import flush_workspace_reports
from windlass.runtime.spool import ReportSpool, spool_dir
from windlass.services.runs import Runs

POINT = '{{"type":"metric","name":"train_loss","step":{step},"value":1.0,"time":"2026-01-01T12:00:00Z"}}'


def write_spool(workspace: Path, name: str, *items: str) -> None:
    spool = ReportSpool(spool_dir(workspace) / f"{name}.jsonl")
    for item in items:
        spool.put(item)
    spool.close()


def commit_checkpoint(harness: ControlPlaneHarness, run_name: str, step: int) -> str:
    """Commit a checkpoint of a run's first attempt and return its report item."""
    uri = harness.pipelines.contexts[run_name].locations.checkpoint(1, step)
    manifest = harness.write_artifact(harness.key(uri)).model_dump_json()
    return f'{{"type":"checkpoint","step":{step},"manifest":{manifest},"time":"2026-01-01T12:00:00Z"}}'


def spool_files(workspace: Path) -> list[str]:
    return sorted(path.name for path in spool_dir(workspace).iterdir())


def test_spooled_reports_of_a_dead_run_are_accepted(ready: ControlPlaneHarness, tmp_path: Path) -> None:
    job = ready.submit("ours", key="one")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    assert run.acquire_attempt().status_code == 200
    checkpoint = commit_checkpoint(ready, run.name, 2)
    write_spool(tmp_path, "1-rank0", POINT.format(step=1), POINT.format(step=2), checkpoint)
    write_spool(tmp_path, "1-driver", '{"type":"log","text":"last line\\n","time":"2026-01-01T12:00:00Z"}')

    report = Runs(ready.deps, run.run, timedelta(seconds=30)).report
    assert flush_workspace_reports(tmp_path, report) == []
    assert spool_files(tmp_path) == []
    base = f"/v1/projects/ours/jobs/{job['id']}"
    assert [item["step"] for item in ready.client.get(f"{base}/checkpoints").json()["items"]] == [2]
    assert "last line" in ready.client.get(f"{base}/logs").text
    assert flush_workspace_reports(tmp_path, report) == [], "flushing again is a no-op"


def test_next_attempt_resumes_from_a_spooled_checkpoint(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="one")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    assert run.acquire_attempt().status_code == 200
    checkpoint = commit_checkpoint(ready, run.name, 7)
    write_spool(ready.home / "runs" / run.name, "1-rank0", POINT.format(step=7), checkpoint)
    ready.pipelines.end(run.name, BackendState.LOST, "the machine went down")
    ready.run_worker_once(2)
    reply = ready.simulated_run(job).acquire_attempt("t2").json()
    assert (reply["attempt"], reply["resume"]["step"]) == (2, 7)


def raise_unavailable(_attempt: int, _batch: ReportBatch) -> ReportReply:
    raise UnavailableError("the database is unavailable")


def raise_fenced(_attempt: int, _batch: ReportBatch) -> ReportReply:
    raise FencedError("attempt 1 is lost")


def test_spool_is_kept_if_unavailable_and_deleted_if_fenced(tmp_path: Path) -> None:
    write_spool(tmp_path, "1-rank0", POINT.format(step=1))
    [left] = flush_workspace_reports(tmp_path, raise_unavailable)
    assert (left.source, left.cause) == ("rank0", "the database is unavailable")
    assert spool_files(tmp_path) == ["1-rank0.jsonl"]
    assert flush_workspace_reports(tmp_path, raise_fenced) == []
    assert spool_files(tmp_path) == []


@pytest.mark.parametrize("line", ["{cut\n", '{"item": {}}\nnot json\n{"cut": 1}\n'])
def test_damaged_spool_is_renamed_and_does_not_block_others(tmp_path: Path, line: str) -> None:
    write_spool(tmp_path, "1-rank0", POINT.format(step=1))
    (spool_dir(tmp_path) / "0-rank0.jsonl").write_text(line)
    assert flush_workspace_reports(tmp_path, raise_fenced) == []
    assert spool_files(tmp_path) == ["0-rank0.corrupted"]


LOG = '{"type":"log","text":"last line\\n","time":"2026-01-01T12:00:00Z"}'


class Usage(NamedTuple):
    """What ``shutil.disk_usage`` returns."""

    total: int
    used: int
    free: int


@contextmanager
def full_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fill the disk of the object store; the database, which has a reserve, can still be written."""
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _path: Usage(1 << 30, 1 << 30, 0))
        yield


def result_of(harness: ControlPlaneHarness, run_name: str) -> str:
    uri = harness.pipelines.contexts[run_name].locations.artifact(1)
    manifest = harness.write_artifact(harness.key(uri)).model_dump_json()
    fields = f'"manifest":{manifest},"evaluation":{{"accuracy":0.9}}'
    return f'{{"type":"result","outcome":"succeeded",{fields},"time":"2026-01-01T12:00:00Z"}}'


def job_of(harness: ControlPlaneHarness, job: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()
    return body


def attempt_state(harness: ControlPlaneHarness, job: dict[str, Any]) -> str:
    with harness.database.read() as uow:
        return uow.all_projects().attempts.get({"job": job["id"], "number": 1}).state


def codes(harness: ControlPlaneHarness, job: dict[str, Any]) -> list[str]:
    events = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()
    return [event["code"] for event in events["items"]]


@pytest.fixture
def dead(ready: ControlPlaneHarness) -> dict[str, Any]:
    """Return a job whose run has died; its driver left a log line and the result of the training."""
    job = ready.submit("ours", key="one")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    assert run.acquire_attempt().status_code == 200
    write_spool(ready.home / "runs" / run.name, "1-driver", LOG, result_of(ready, run.name))
    ready.pipelines.end(run.name, BackendState.LOST, "the machine went down")
    return job


def test_a_result_is_stored_when_the_disk_is_full_for_its_log_text(
    ready: ControlPlaneHarness, dead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_store(monkeypatch):
        ready.run_worker_once()
    assert attempt_state(ready, dead) == "finished"
    assert "log_dropped" in codes(ready, dead)


def test_a_run_waits_for_the_reports_of_a_process_that_still_holds_its_spool(
    ready: ControlPlaneHarness, dead: dict[str, Any]
) -> None:
    run = ready.simulated_run(dead)
    workspace = ready.home / "runs" / run.name
    write_spool(workspace, "1-rank0", POINT.format(step=1))
    held = ReportSpool(spool_dir(workspace) / "1-rank0.jsonl")
    ready.run_worker_once()
    assert attempt_state(ready, dead) == "finished", "the other spools are delivered"
    stuck = job_of(ready, dead)
    assert stuck["runs"][0]["state"] in {"pending", "running"}
    assert stuck["reason"]["code"] == "run_not_reconciled"
    assert "rank0 of attempt 1" in stuck["reason"]["message"]
    held.close()
    ready.run_worker_once()
    assert job_of(ready, dead)["runs"][0]["state"] == "lost"
    metrics = ready.client.get(f"/v1/projects/ours/jobs/{dead['id']}/metrics").json()
    assert "train_loss" in str(metrics), "the result did not close the attempt for what was measured before it"


def test_a_run_waits_at_most_ten_minutes_for_its_last_reports(ready: ControlPlaneHarness, dead: dict[str, Any]) -> None:
    run = ready.simulated_run(dead)
    held = ReportSpool(spool_dir(ready.home / "runs" / run.name) / "1-driver.jsonl")
    ready.run_worker_once()
    ready.clock.advance(599)
    ready.run_worker_once()
    assert job_of(ready, dead)["runs"][0]["state"] in {"pending", "running"}
    ready.clock.advance(2)
    ready.run_worker_once()
    assert job_of(ready, dead)["runs"][0]["state"] == "lost"
    assert attempt_state(ready, dead) == "lost"
    assert "reports_lost" in codes(ready, dead)
    held.close()


def test_the_reason_of_a_problem_that_is_over_is_removed(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ready.submit("ours", key="one")
    ready.run_worker_once(2)
    ready.simulated_run(job).acquire_attempt()

    def fail(_name: str) -> None:
        raise UnavailableError("its process cannot be found")

    with monkeypatch.context() as patched:
        patched.setattr(ready.pipelines, "poll", fail)
        with pytest.raises(UnavailableError):
            ready.jobs.poll()
    assert job_of(ready, job)["reason"]["code"] == "run_not_reconciled"
    ready.jobs.poll()
    assert job_of(ready, job)["reason"] is None
