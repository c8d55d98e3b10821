"""Runs whole attempts in this process, on tiny models; a store is built once per task and copied."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.factories.training_runs import job_spec, make_run
from tests.fakes.voice import RecordingVoice

from windlass.domain.reports import ClaimReply, ResumePoint
from windlass.domain.specs import JobSpec
from windlass.runtime.context import RunContext
from windlass_pipelines.train import core
from windlass_pipelines.train.attempt import AttemptRun
from windlass_pipelines.train.collective import Ranks
from windlass_pipelines.train.outcome import Conclusion

MakeRun = Callable[[JobSpec], RunContext]
Attempt = Callable[..., Conclusion]


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {task: tmp_path_factory.mktemp(task) for task in ("text-classification", "chat")}
    for task, root in roots.items():
        make_run(root, job_spec(task))
    return roots


@pytest.fixture
def run_for(tmp_path: Path, stores: dict[str, Path]) -> MakeRun:
    """Make the context of a run over a fresh copy of the task's store."""

    def make(spec: JobSpec) -> RunContext:
        if not (tmp_path / "store").exists():
            shutil.copytree(stores[spec.task.value] / "store", tmp_path / "store")
        return make_run(tmp_path, spec)

    return make


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """Run one attempt to its end; it tells every step at once, so that a voice can answer at a certain one."""
    torch.set_num_threads(1)
    monkeypatch.setattr(core, "_TELL_SECONDS", 0.0)

    def run(context: RunContext, voice: RecordingVoice, number: int = 1, **claim: Any) -> Conclusion:
        reply = ClaimReply(attempt=number, lease_seconds=30, **claim)
        return AttemptRun(context, reply, Ranks(), voice, lambda module: module).run()

    return run


@pytest.fixture
def newest() -> Callable[[RecordingVoice], ResumePoint]:
    """Return the resume point that a control plane would give after what a voice has recorded."""

    def point(voice: RecordingVoice) -> ResumePoint:
        item = voice.checkpoints[-1]
        return ResumePoint(step=item.step, prefix=item.prefix, manifest=item.manifest)

    return point
