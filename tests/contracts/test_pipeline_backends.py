"""Runs the pipeline backend contract in memory, on real processes and on a fake Kubeflow Pipelines server.

The pods of a cluster are in ``tests/integration/cluster/test_run_pods.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.contracts.pipeline_backend import PipelineBackendContract, RunDriver
from tests.factories.kfp_runs import KfpRun, kfp_run
from tests.factories.local_runs import LocalRun, spec
from tests.factories.run_contexts import run_context
from tests.factories.served_control_plane import ServedControlPlane
from tests.fakes.backends import MemoryPipelines

from windlass.orchestration.run_result import RunResult
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


@dataclass
class KfpRunDriver:
    """A run on a fake Kubeflow Pipelines server, whose step the test ends."""

    run: KfpRun

    def backend(self) -> PipelineBackend:
        return self.run.backend()

    def context(self) -> RunContext:
        return self.run.context

    def finish(self, result: str) -> None:
        self.run.finish(result)

    def preempt(self) -> None:
        self.run.end_step(RunResult(state="stopped"))

    def wait_ended(self) -> BackendState:
        return self.run.wait_ended().state

    def starts(self) -> int:
        return self.run.starts()


class TestMemoryPipelines(PipelineBackendContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> RunDriver:
        return InMemoryRunDriver(tmp_path)


class TestKfpPipelineBackend(PipelineBackendContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[RunDriver]:
        with kfp_run(tmp_path) as run:
            yield KfpRunDriver(run)


@pytest.mark.processes
class TestLocalPipelineBackend(PipelineBackendContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[RunDriver]:
        with ServedControlPlane(tmp_path) as control_plane:
            run = LocalRun(control_plane, tmp_path, ("from-file",))
            yield LocalRunDriver(run)
            run.end()
