"""Fixtures: a real local Ray, a control plane and a trainer process."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import pytest
from tests.factories.served_control_plane import ServedControlPlane
from tests.factories.training_runs import make_run

from windlass.domain.specs import JobSpec
from windlass.orchestration.ray_head import LocalRay
from windlass.runtime.context import RAY_ADDRESS_VARIABLE, RunEnvironment

MakeRun = Callable[[JobSpec], RunEnvironment]
StartTrainer = Callable[..., AbstractContextManager[Popen[str]]]


class RayOfTwoGpus(LocalRay):
    """Ray as on a machine with two GPUs, which torch does not find: the processes compute with CPUs."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"RAY_OVERRIDE_RESOURCES": '{"GPU": 2}'}


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRay]:
    ray = RayOfTwoGpus(tmp_path_factory.mktemp("ray"), sys.executable)
    ray.ensure()
    yield ray
    ray.stop()


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as running:
        yield running


@pytest.fixture
def run_for(tmp_path: Path, control_plane: ServedControlPlane) -> MakeRun:
    def make(spec: JobSpec) -> RunEnvironment:
        return control_plane.environment(make_run(tmp_path, spec, has_gpus=True))

    return make


@pytest.fixture
def start_trainer(local_ray: LocalRay) -> StartTrainer:
    """Start the trainer as the train step does; it is gone when the block is left."""

    @contextmanager
    def start(environment: RunEnvironment, ray_address: str | None = None) -> Iterator[Popen[str]]:
        address = {RAY_ADDRESS_VARIABLE: ray_address or local_ray.ensure()}
        variables = os.environ | local_ray.environment() | environment.variables() | address
        argv = [sys.executable, "-m", "windlass_pipelines.train"]
        with Popen(argv, env=variables, stdout=PIPE, stderr=STDOUT, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    return start
