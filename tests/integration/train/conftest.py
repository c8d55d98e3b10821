"""One real local Ray for the tests of the trainer process."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import pytest
from tests.factories.training_runs import make_run
from tests.fakes.control_plane import FakeControlPlane

from windlass.domain.specs import JobSpec
from windlass.orchestration.ray_head import LocalRay
from windlass.runtime.context import CONTEXT_VARIABLE, RunContext

MakeContext = Callable[[JobSpec], RunContext]
StartTrainer = Callable[[RunContext], AbstractContextManager[Popen[str]]]


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRay]:
    ray = LocalRay(tmp_path_factory.mktemp("ray"), sys.executable)
    ray.ensure()
    yield ray
    ray.stop()


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as running:
        yield running


@pytest.fixture
def context_for(tmp_path: Path, plane: FakeControlPlane, local_ray: LocalRay) -> MakeContext:
    def make(spec: JobSpec) -> RunContext:
        context = make_run(tmp_path, spec, api_url=plane.url)
        return context.model_copy(update={"run": plane.run, "ray_address": local_ray.ensure()})

    return make


@pytest.fixture
def start_trainer(tmp_path: Path, local_ray: LocalRay) -> StartTrainer:
    """Start the trainer as the train step does; it is gone when the block is left."""

    @contextmanager
    def start(context: RunContext) -> Iterator[Popen[str]]:
        path = tmp_path / "context.json"
        context.write(path)
        environment = os.environ | local_ray.environment() | {CONTEXT_VARIABLE: str(path)}
        argv = [sys.executable, "-m", "windlass_pipelines.train"]
        with Popen(argv, env=environment, stdout=PIPE, stderr=STDOUT, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    return start
