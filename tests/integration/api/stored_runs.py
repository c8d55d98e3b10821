"""What the control plane has stored of a job, its runs, attempts and log; and the items that a run reports."""

from typing import Any

from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

from windlass.domain.jobs import Attempt, Job, Run
from windlass.ports import BackendState

EMPTY: dict[str, Any] = {"files": {}}
TIMEOUT = 30
"""Heartbeat timeout of the harness, in seconds."""


def metric(step: int, name: str = "train_loss") -> dict[str, Any]:
    return {"type": "metric", "name": name, "step": step, "value": 1.0}


def checkpoint(step: int) -> dict[str, Any]:
    return {"type": "checkpoint", "step": step, "manifest": EMPTY}


def event(code: str, **context: Any) -> dict[str, Any]:
    return {"type": "event", "code": code, "message": "", "context": context}


def result(outcome: str, **more: Any) -> dict[str, Any]:
    return {"type": "result", "outcome": outcome, **more}


LOG = {"type": "log", "text": "line"}


def stored_job(harness: ControlPlaneHarness, job: dict[str, Any]) -> Job:
    with harness.database.read() as uow:
        return uow.all_projects().jobs.get({"id": job["id"]})


def stored_run(harness: ControlPlaneHarness, run: SimulatedRun) -> Run:
    with harness.database.read() as uow:
        return uow.all_projects().runs.get({"id": run.run})


def attempt(harness: ControlPlaneHarness, job: dict[str, Any], number: int = 1) -> Attempt:
    with harness.database.read() as uow:
        return uow.all_projects().attempts.get({"job": job["id"], "number": number})


def checkpoints(harness: ControlPlaneHarness, job: dict[str, Any]) -> list[tuple[int, int]]:
    """Attempt and step of each checkpoint."""
    with harness.database.read() as uow:
        return [(each.attempt, each.step) for each in uow.all_projects().checkpoints.all({"job": job["id"]})]


def change_job(harness: ControlPlaneHarness, job: dict[str, Any], **update: Any) -> None:
    with harness.database.write() as uow:
        jobs = uow.all_projects().jobs
        jobs.save(jobs.get({"id": job["id"]}).model_copy(update=update))


def change_run(harness: ControlPlaneHarness, run: SimulatedRun, **update: Any) -> None:
    with harness.database.write() as uow:
        runs = uow.all_projects().runs
        runs.save(runs.get({"id": run.run}).model_copy(update=update))


def next_run(harness: ControlPlaneHarness, job: dict[str, Any], run: SimulatedRun) -> SimulatedRun:
    """Lose a run, and return the one that replaces it."""
    harness.pipelines.end(run.name, BackendState.LOST, "gone")
    harness.run_worker_once(2)
    replacing = harness.simulated_run(job)
    assert replacing.run != run.run
    return replacing


def log_object(harness: ControlPlaneHarness, job: dict[str, Any]) -> bytes:
    """All text that was stored, also what the job's log does not show."""
    text = b""
    for key in harness.store.keys("projects"):
        if key.endswith(f"{job['id']}/log"):
            with harness.store.open(key) as stream:
                text += stream.read()
    return text


def is_fenced(reply: Any) -> bool:
    return (reply.status_code, reply.json().get("code")) == (409, "fenced")
