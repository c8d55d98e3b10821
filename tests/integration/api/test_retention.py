"""What goes when nobody needs it any more, and what stays."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.house import House, RunClient

from windlass.orchestration import processes
from windlass.ports import BackendState

DAY = 24 * 3600


def folder_of(house: House, run: RunClient) -> Path:
    """Make the folder that a real run has."""
    folder = house.home / "runs" / run.name
    folder.mkdir(parents=True)
    (folder / "context.json").write_text("a token")
    return folder


def checkpoint(house: House, run: RunClient, step: int, attempt: int = 1) -> Path:
    """Commit and report a checkpoint; return its folder."""
    prefix = f"{house.pipelines.contexts[run.name].checkpoint_prefix}/{attempt}/{step}"
    manifest = house.artifact(prefix)
    item = {"type": "checkpoint", "step": step, "prefix": prefix, "manifest": manifest.model_dump()}
    assert run.report(attempt, item).status_code == 200
    return house.store.local_path(prefix)


def steps(house: House, job: dict[str, Any]) -> list[int]:
    items = house.client.get(f"/v1/projects/ours/jobs/{job['id']}/checkpoints").json()["items"]
    return [item["step"] for item in items]


def started(house: House, key: str = "1") -> tuple[dict[str, Any], RunClient]:
    job = house.submit("ours", key=key)
    house.turn(2)
    run = house.run_of(job)
    assert run.claim().status_code == 200
    return job, run


def test_an_ended_job_keeps_its_model_and_log_and_nothing_else(ready: House) -> None:
    job, run = started(ready)
    folder = folder_of(ready, run)
    run.report(1, {"type": "log", "text": "hello"})
    saved = checkpoint(ready, run, 2)
    ready.pipelines.end(run.name, BackendState.LOST, "gone")
    ready.turn(2)
    again = ready.run_of(job)
    again.claim("t2")
    context = ready.pipelines.contexts[again.name]
    ready.artifact(f"{context.artifact_prefix}/1")  # an attempt that was lost after it wrote, before it registered
    again.finish(2)
    ready.pipelines.end(again.name, BackendState.SUCCEEDED)
    ready.turn()
    ready.retention.sweep()
    assert folder.exists()
    assert steps(ready, job) == [2]
    ready.clock.forward(DAY + 60)
    ready.retention.sweep()
    assert not folder.exists()
    assert not saved.exists()
    assert steps(ready, job) == []
    assert not ready.store.local_path(f"{context.artifact_prefix}/1").exists()
    assert ready.client.get("/v1/projects/ours/models/classifier/versions/1/files/report.html").status_code == 200
    assert "hello" in ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/logs").text


def test_a_job_whose_run_has_not_ended_is_left_alone(ready: House) -> None:
    job, run = started(ready)
    folder = folder_of(ready, run)
    saved = checkpoint(ready, run, 2)
    run.finish(1)
    assert ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"] == "succeeded"
    ready.clock.forward(DAY + 60)
    ready.retention.sweep()
    assert folder.exists()
    assert saved.exists()


def test_what_cannot_be_removed_is_tried_again_and_holds_up_no_other(
    ready: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    for key in ("1", "2"):
        job, run = started(ready, key)
        checkpoint(ready, run, 2)
        ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel")
        ready.pipelines.end(run.name, BackendState.STOPPED)
        ready.turn(2)
        jobs.append((job, folder_of(ready, run)))
    ready.clock.forward(DAY + 60)
    forget = ready.retention.folders.forget

    def stuck(name: str) -> None:
        if name == jobs[0][1].name:
            raise OSError("busy")
        forget(name)

    with monkeypatch.context() as patched:
        patched.setattr(ready.retention.folders, "forget", stuck)
        with pytest.raises(OSError, match="busy"):
            ready.retention.sweep()
    assert [folder.exists() for _, folder in jobs] == [True, False]
    ready.retention.sweep()
    assert [folder.exists() for _, folder in jobs] == [False, False]


def test_rows_of_checkpoints_that_the_trainer_has_pruned_go(ready: House) -> None:
    job, run = started(ready)
    first, *_ = [checkpoint(ready, run, step) for step in (1, 2, 3)]
    for file in first.iterdir():
        file.unlink()
    ready.retention.sweep()
    assert steps(ready, job) == [2, 3]


def test_a_deleted_project_leaves_no_run_folder(ready: House) -> None:
    _, run = started(ready)
    folder = folder_of(ready, run)
    run.finish(1)
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.turn()
    ready.retention.sweep()
    assert folder.exists()
    assert ready.client.delete("/v1/projects/ours", headers={"If-Match": '"1"'}).status_code == 204
    ready.retention.sweep()
    assert not folder.exists()


def test_an_idempotency_key_is_forgotten_after_its_time(ready: House) -> None:
    first = ready.submit("ours", key="k")
    ready.client.post(f"/v1/projects/ours/jobs/{first['id']}:cancel")
    ready.clock.forward(6 * DAY)
    ready.retention.sweep()
    assert ready.submit("ours", key="k")["id"] == first["id"]
    ready.clock.forward(2 * DAY)
    ready.retention.sweep()
    assert ready.submit("ours", key="k")["id"] != first["id"]


def test_it_looks_once_a_minute(ready: House, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(type(ready.retention), "sweep", lambda _: looks.append(1))
    for _ in range(3):
        ready.retention.step()
        ready.clock.forward(40)
    assert len(looks) == 2


@pytest.mark.processes
def test_forgetting_a_run_ends_what_still_lives_of_it(ready: House, tmp_path: Path) -> None:
    folder = ready.home / "runs" / "job-1-r1"
    folder.mkdir(parents=True)
    record = processes.start(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        environment=processes.clean_environment({}),
        log=tmp_path / "log",
        record=processes.claim(),
    )
    record.save(folder / "process.json")
    ready.retention.folders.forget("job-1-r1")
    assert not processes.alive(record)
    assert not folder.exists()
    for name in ("..", ".", "", "../runs"):
        ready.retention.folders.forget(name)
    assert (ready.home / "windlass.db").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(record.pid or 0, signal.SIG_DFL)
