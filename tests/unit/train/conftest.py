"""Fixtures that run attempts in this process on tiny models; each task's store is built once and copied."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.factories.training_runs import job_spec, make_run
from tests.fakes.recording_reporter import RecordingReporter

from windlass.domain.reports import AcquireAttemptReply, ResumePoint
from windlass.domain.specs import JobSpec
from windlass.runtime.context import RunEnvironment
from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.train import trainer as trainer_module
from windlass_pipelines.train.attempt import AttemptRun
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.result import AttemptResult

MakeRun = Callable[[JobSpec], RunEnvironment]
Attempt = Callable[..., AttemptResult]


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {task: tmp_path_factory.mktemp(task) for task in ("text-classification", "chat")}
    for task, root in roots.items():
        make_run(root, job_spec(task))
    return roots


@pytest.fixture
def run_for(tmp_path: Path, stores: dict[str, Path]) -> MakeRun:
    """Make the environment of a run over a fresh copy of the task's store."""

    def make(spec: JobSpec) -> RunEnvironment:
        if not (tmp_path / "store").exists():
            shutil.copytree(stores[spec.task.value] / "store", tmp_path / "store")
        return make_run(tmp_path, spec)

    return make


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """Run one attempt; it reports every step at once, so that the reporter can send a command at a given step."""
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer_module, "_LOG_INTERVAL_SECONDS", 0.0)

    def run(
        environment: RunEnvironment, reporter: RecordingReporter, number: int = 1, **acquired: Any
    ) -> AttemptResult:
        reply = AcquireAttemptReply(attempt=number, heartbeat_timeout_seconds=30, **acquired)
        return AttemptRun(
            environment, reply, DistributedContext(), reporter, FileTransfer(), lambda module: module
        ).run()

    return run


@pytest.fixture
def newest_resume_point() -> Callable[..., ResumePoint]:
    """Return the resume point for the newest checkpoint that a reporter recorded."""

    def point(reporter: RecordingReporter, attempt: int = 1) -> ResumePoint:
        item = reporter.checkpoints[-1]
        return ResumePoint(attempt=attempt, step=item.step, manifest=item.manifest)

    return point
