"""Runs the pipeline backend contract on the in-memory backend and on real processes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.contracts.pipeline_backend import PipelineBackendContract, RunDriver
from tests.factories.local_runs import LocalRun, spec
from tests.factories.run_contexts import run_context
from tests.factories.served_control_plane import ServedControlPlane
from tests.fakes.backends import MemoryPipelines

from windlass.ports import BackendState, PipelineBackend
from windlass.runtime.context import RunContext


@dataclass
class InMemoryRunDriver:
    """Sets the run's state directly."""

    root: Path
    pipelines: MemoryPipelines = field(default_factory=MemoryPipelines)

    def backend(self) -> PipelineBackend:
        return self.pipelines

    def context(self) -> RunContext:
        return run_context(self.root, spec())

    def finish(self, result: str) -> None:
        if result == "ok":
            self.pipelines.end(self.context().identity.name, BackendState.SUCCEEDED)
        else:
            self.pipelines.end(self.context().identity.name, BackendState.FAILED, "train: the loss is not a number")

    def preempt(self) -> None:
        self.pipelines.end(self.context().identity.name, BackendState.STOPPED)

    def wait_ended(self) -> BackendState:
        return self.pipelines.poll(self.context().identity.name).state

    def starts(self) -> int:
        return len(self.pipelines.contexts)


@dataclass
class LocalRunDriver:
    """A real child process whose stub trainer reads its result from a file."""

    run: LocalRun

    def backend(self) -> PipelineBackend:
        return self.run.backend()

    def context(self) -> RunContext:
        return self.run.context

    def finish(self, result: str) -> None:
        draft = self.run.folder / "result.tmp"
        draft.write_text(result)
        draft.replace(draft.with_name("result"))

    def preempt(self) -> None:
        self.run.control_plane.preempt()

    def wait_ended(self) -> BackendState:
        return self.run.until().state

    def starts(self) -> int:
        return self.run.trainer_starts()


class TestMemoryPipelines(PipelineBackendContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> RunDriver:
        return InMemoryRunDriver(tmp_path)


@pytest.mark.processes
class TestLocalPipelineBackend(PipelineBackendContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[RunDriver]:
        with ServedControlPlane(tmp_path) as control_plane:
            run = LocalRun(control_plane, tmp_path, ("from-file",))
            yield LocalRunDriver(run)
            run.end()
