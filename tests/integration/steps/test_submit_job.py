"""The step that submits a job for a user of a Kubeflow Pipelines server."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
from tests.factories.http_servers import serve
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.projects import PlatformRole
from windlass.ports import BackendState
from windlass.runtime.context import KFP_RUN_ID_VARIABLE
from windlass.sdk import Job
from windlass.sdk._sync.jobs import Jobs
from windlass.services.keys import Keys
from windlass_pipelines.steps.server_step import RunArtifacts
from windlass_pipelines.steps.submit_job import JobNotSucceededError, submit_job, with_integers

SPEC = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}
_LIMIT_SECONDS = 60.0


@dataclass
class Artifact:
    """An output artifact as kfp makes it."""

    path: str
    uri: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class SubmittedJob:
    """Submits the job of a user to a control plane that is served, as the step of a run."""

    control_plane: ControlPlaneHarness
    url: str
    folder: Path

    def submit(self) -> tuple[str, dict[str, Artifact]]:
        artifacts = {each.name: Artifact(str(self.folder / each.name)) for each in fields(RunArtifacts)}
        spec = SPEC | {"method": {"type": "lora", "rank": 8.0}}
        return submit_job(self.url, "ours", spec, RunArtifacts(**artifacts)), artifacts

    def jobs(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.control_plane.client.get("/v1/projects/ours/jobs").json()["items"]
        return listed

    def when_submitted(self, act: Callable[[dict[str, Any]], None]) -> threading.Thread:
        """Act in a thread when the job exists."""

        def run() -> None:
            deadline = time.monotonic() + _LIMIT_SECONDS
            while not self.jobs() and time.monotonic() < deadline:
                time.sleep(0.05)
            act(self.jobs()[0])

        thread = threading.Thread(target=run)
        thread.start()
        return thread


@pytest.fixture
def submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SubmittedJob]:
    harness = ControlPlaneHarness(tmp_path)
    with harness.client, serve(harness.app) as port:
        harness.create_project("ours")
        harness.create_base_model()
        harness.create_dataset("ours")
        monkeypatch.setenv(
            "WINDLASS_KEY", Keys(harness.deps, ADMIN).create("caller", platform_role=PlatformRole.ADMIN)[1]
        )
        monkeypatch.setenv(KFP_RUN_ID_VARIABLE, "run-1")
        yield SubmittedJob(harness, f"http://127.0.0.1:{port}", tmp_path)
    harness.close()


def finish(control_plane: ControlPlaneHarness, job: dict[str, Any]) -> None:
    control_plane.run_worker_once(2)
    run = control_plane.simulated_run(job)
    assert run.acquire_attempt().status_code == 200
    losses = [{"type": "metric", "name": "train_loss", "step": step, "value": 1 / step} for step in (1, 2)]
    assert run.report(1, *losses).status_code == 200
    assert run.finish(1, {"accuracy": 0.9}).status_code == 200
    control_plane.pipelines.end(run.name, BackendState.SUCCEEDED)
    control_plane.run_worker_once()


def test_a_job_is_submitted_followed_and_described(submitted: SubmittedJob, capsys: pytest.CaptureFixture[str]) -> None:
    thread = submitted.when_submitted(lambda job: finish(submitted.control_plane, job))
    job, artifacts = submitted.submit()
    thread.join()
    assert [each["id"] for each in submitted.jobs()] == [job]
    assert submitted.jobs()[0]["created_by"] == "caller"
    assert submitted.jobs()[0]["spec"]["method"]["rank"] == 8
    assert artifacts["evaluation"].metadata == {"accuracy": 0.9}
    assert artifacts["model"].uri.endswith("/v1/projects/ours/models/classifier/versions/1")
    assert len(artifacts["model"].metadata["sha256"]) == 64
    assert "Training loss falls to 0.500 at step 2" in Path(artifacts["loss"].path).read_text()
    assert capsys.readouterr().out.startswith(f"job {job} of project ours\n")
    again, _ = submitted.submit()  # the server repeats a step
    assert again == job
    assert len(submitted.jobs()) == 1


def test_a_failed_job_fails_the_step_with_its_reason(submitted: SubmittedJob) -> None:
    def fail(job: dict[str, Any]) -> None:
        submitted.control_plane.run_worker_once(2)
        run = submitted.control_plane.simulated_run(job)
        submitted.control_plane.pipelines.end(run.name, BackendState.FAILED, "train: the loss is not a number")
        submitted.control_plane.run_worker_once()

    thread = submitted.when_submitted(fail)
    with pytest.raises(JobNotSucceededError, match="is failed: train: the loss is not a number"):
        submitted.submit()
    thread.join()


def test_terminating_the_run_cancels_the_job(submitted: SubmittedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    install = signal.signal

    def observed(number: int, handler: Any) -> Any:
        previous = install(number, handler)
        waiting.set()
        return previous

    monkeypatch.setattr(signal, "signal", observed)

    def terminate(_job: dict[str, Any]) -> None:
        assert waiting.wait(_LIMIT_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = submitted.when_submitted(terminate)
    with pytest.raises(SystemExit) as ended:
        submitted.submit()
    thread.join()
    assert ended.value.code == 143
    assert submitted.jobs()[0]["state"] == "cancelled"


def test_terminating_the_run_before_the_reply_to_the_submission_cancels_the_job(
    submitted: SubmittedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, keys = Jobs.create, list[str]()

    def create_and_terminate(jobs: Jobs, spec: dict[str, Any], *, idempotency_key: str) -> Job:
        created = create(jobs, spec, idempotency_key=idempotency_key)
        keys.append(idempotency_key)
        if len(keys) == 1:
            signal.raise_signal(signal.SIGTERM)
        return created

    monkeypatch.setattr(Jobs, "create", create_and_terminate)
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(SystemExit) as ended:
            submitted.submit()
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert ended.value.code == 143
    assert [job["state"] for job in submitted.jobs()] == ["cancelled"]


def test_whole_numbers_of_the_server_become_integers() -> None:
    given = {"rank": 16.0, "rate": 0.5, "nested": [1.0, {"a": 2.0}], "text": "1.0", "flag": True}
    assert with_integers(given) == {"rank": 16, "rate": 0.5, "nested": [1, {"a": 2}], "text": "1.0", "flag": True}
    assert isinstance(with_integers(given)["rank"], int)
    assert with_integers(given)["flag"] is True
