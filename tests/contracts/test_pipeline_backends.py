"""The contract of pipeline back ends on the one in memory, which tests of services use, and on real processes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.contracts.pipeline_backend import PipelineBackendContract, PipelineWorld
from tests.fakes.backends import MemoryPipelines
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.runs import RUN_NAME, LocalRun, run_context

from windlass.domain.reports import Command
from windlass.ports import BackendState, PipelineBackend
from windlass.runtime.context import RunContext


@dataclass
class MemoryWorld:
    """Ends its run by hand."""

    root: Path
    pipelines: MemoryPipelines = field(default_factory=MemoryPipelines)

    def backend(self) -> PipelineBackend:
        return self.pipelines

    def context(self) -> RunContext:
        return run_context(FakeControlPlane(), self.root)

    def tell(self, how: str) -> None:
        if how == "ok":
            self.pipelines.end(RUN_NAME, BackendState.SUCCEEDED)
        else:
            self.pipelines.end(RUN_NAME, BackendState.FAILED, "train: the loss is not a number")

    def preempt(self) -> None:
        self.pipelines.end(RUN_NAME, BackendState.STOPPED)

    def ended(self) -> BackendState:
        return self.pipelines.poll(RUN_NAME).state

    def starts(self) -> int:
        return len(self.pipelines.contexts)


@dataclass
class LocalWorld:
    """A real child process whose stand-in trainer waits to be told."""

    run: LocalRun

    def backend(self) -> PipelineBackend:
        return self.run.backend()

    def context(self) -> RunContext:
        return self.run.context

    def tell(self, how: str) -> None:
        draft = self.run.context.workspace / "told.tmp"
        draft.write_text(how)
        draft.replace(draft.with_name("told"))

    def preempt(self) -> None:
        self.run.plane.command = Command.PREEMPT

    def ended(self) -> BackendState:
        return self.run.until().state

    def starts(self) -> int:
        return self.run.lives()


class TestMemoryPipelines(PipelineBackendContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> PipelineWorld:
        return MemoryWorld(tmp_path)


@pytest.mark.processes
class TestLocalPipelineBackend(PipelineBackendContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[PipelineWorld]:
        with FakeControlPlane() as plane:
            run = LocalRun(plane, tmp_path, ("told",))
            yield LocalWorld(run)
            run.end()
