"""A warm trainer process on a real local Ray: it waits for its run, over HTTP, and trains it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any, Protocol

import pytest
from starlette.responses import Response
from tests.factories.served_control_plane import ServedControlPlane, problem
from tests.factories.training_runs import artifact_folder, job_spec
from tests.integration.train.conftest import MakeRun

from windlass.domain.reports import ResultStatus
from windlass.orchestration.ray_head import LocalRay
from windlass.runtime.artifacts import verify
from windlass.runtime.context import (
    CONTEXT_VARIABLE,
    RAY_ADDRESS_VARIABLE,
    WARM_TRAINER_FILE,
    WARM_TRAINER_VARIABLE,
    WORKSPACE_VARIABLE,
    RunContext,
    WarmTrainerContext,
)
from windlass.wire.runs import WARM_TRAINERS_PATH
from windlass_pipelines.train.driver import FENCED, REPORTED

pytestmark = [pytest.mark.processes, pytest.mark.timeout(280)]
TRAINING = {"epochs": 10, "batch_size": 8, "learning_rate": 1e-2, "checkpoint_every_steps": 20}


class AssignedRun:
    """Answers the requests of a warm trainer."""

    def __init__(self) -> None:
        self.run: RunContext | None = None
        self.failure: Response | None = None
        self.asked = threading.Semaphore(0)

    def reply(self, path: str, _body: Any) -> Response | None:
        if not path.startswith(WARM_TRAINERS_PATH):
            return None
        self.asked.release()
        if self.failure is not None:
            return self.failure
        return Response(status_code=204) if self.run is None else Response(self.run.model_dump_json())


class StartWarmTrainer(Protocol):
    """Starts the process of a warm trainer; it is gone when the block is left."""

    def __call__(self) -> AbstractContextManager[Popen[str]]:
        """Start it."""
        ...


@pytest.fixture
def assigned(control_plane: ServedControlPlane) -> AssignedRun:
    answers = AssignedRun()
    control_plane.intercept = answers.reply
    return answers


@pytest.fixture
def start_warm_trainer(tmp_path: Path, local_ray: LocalRay, control_plane: ServedControlPlane) -> StartWarmTrainer:
    workspace, own = tmp_path / "warm", tmp_path / WARM_TRAINER_FILE
    workspace.mkdir()
    context = WarmTrainerContext(api_url=control_plane.url, token="secret-warm-token", project="demo", name="warm-1")
    own.write_text(context.model_dump_json())

    @contextmanager
    def start() -> Iterator[Popen[str]]:
        variables = {
            WARM_TRAINER_VARIABLE: str(own),
            CONTEXT_VARIABLE: str(workspace / "context.json"),
            WORKSPACE_VARIABLE: str(workspace),
            RAY_ADDRESS_VARIABLE: local_ray.ensure(),
        }
        argv = [sys.executable, "-m", "windlass_pipelines.train.warm"]
        environment = os.environ | local_ray.environment() | variables
        with Popen(argv, env=environment, stdout=PIPE, stderr=STDOUT, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    return start


def wait_until_it_asks(assigned: AssignedRun, times: int = 2) -> None:
    for _ in range(times):
        assert assigned.asked.acquire(timeout=60)


def test_it_trains_the_run_that_it_gets(
    control_plane: ServedControlPlane, run_for: MakeRun, assigned: AssignedRun, start_warm_trainer: StartWarmTrainer
) -> None:
    environment = run_for(job_spec(training=TRAINING, method={"type": "full"}))
    with start_warm_trainer() as trainer:
        wait_until_it_asks(assigned)
        assert "trainer_started" not in control_plane.event_codes()
        assigned.run = environment.context
        output, _ = trainer.communicate()
    assert trainer.returncode == REPORTED, output
    assert control_plane.result is not None
    assert control_plane.result.outcome is ResultStatus.SUCCEEDED
    assert verify(artifact_folder(environment)) == control_plane.result.manifest
    assert sorted(control_plane.metrics("train_loss")) == list(range(1, 61))
    log = control_plane.log("driver") + control_plane.log("rank0")
    assert environment.context.run_token not in output + log
    assert "secret-warm-token" not in output + log


def test_it_waits_through_an_outage(
    control_plane: ServedControlPlane, assigned: AssignedRun, start_warm_trainer: StartWarmTrainer
) -> None:
    with start_warm_trainer() as trainer:
        wait_until_it_asks(assigned)
        control_plane.outage()
        control_plane.restore()
        while assigned.asked.acquire(blocking=False):
            pass
        wait_until_it_asks(assigned, 1)
        trainer.send_signal(signal.SIGTERM)
        trainer.communicate(timeout=60)
    assert trainer.returncode != REPORTED


def test_it_ends_when_its_run_has_ended(assigned: AssignedRun, start_warm_trainer: StartWarmTrainer) -> None:
    assigned.failure = problem(409, "fenced")
    with start_warm_trainer() as trainer:
        output, _ = trainer.communicate(timeout=60)
    assert trainer.returncode == FENCED, output
