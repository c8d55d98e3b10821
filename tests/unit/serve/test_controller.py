"""The Serve controller on a fake Serve: transient failures are retried, permanent ones are not."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.unit.serve.tiny_artifacts import seal, served_app

from windlass.domain.endpoints import AppState, AppStatus, ServedApp
from windlass.domain.specs import Task
from windlass.serving.state_files import DESIRED_NAME, STATUS_NAME, DesiredState, ServeControllerStatus, digest

# Ray declares its own pydantic models in a way that pydantic 2 warns of; so it is imported while a test runs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NO_MEMORY = "ModelMemoryError: no free memory for the model: it needs 900 MiB, 100 MiB are free"


@dataclass
class Deployment:
    replica_states: dict[Any, int]
    message: str


@dataclass
class Application:
    status: Any
    deployments: dict[str, Deployment]
    message: str = ""


@dataclass
class FakeServe:
    """The part of ``ray.serve`` that the controller calls; deployments fail if ``failure_message`` is set."""

    applications: dict[str, Application] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    failure_message: str = ""

    def status(self) -> "FakeServe":
        return self

    def delete(self, key: str, *, _blocking: bool) -> None:
        del self.applications[key]

    def run_many(self, targets: list[str], **_options: Any) -> None:
        for key in targets:
            self.started.append(key)
            self.set_state(key, "DEPLOY_FAILED" if self.failure_message else "RUNNING")

    def set_state(self, key: str, status: str) -> None:
        from ray.serve.schema import ApplicationStatus, ReplicaState

        states = {ReplicaState.RUNNING: 1} if status == "RUNNING" else {}
        self.applications[key] = Application(
            ApplicationStatus[status], {"model": Deployment(states, self.failure_message)}
        )


@dataclass
class ControllerHarness:
    """A controller on a fake Serve, with a manual clock and one desired application."""

    folder: Path
    serve: FakeServe
    app: ServedApp
    now: float = 0.0

    def __post_init__(self) -> None:
        from windlass_pipelines.serve.controller import ServeController

        self.controller = ServeController(self.folder, "http://127.0.0.1:9", clock=lambda: self.now)
        self.write_desired(self.app)

    def write_desired(self, *apps: ServedApp) -> None:
        (self.folder / DESIRED_NAME).write_text(DesiredState(apps=apps).model_dump_json())

    def step(self, seconds: float = 0) -> AppStatus:
        self.now += seconds
        self.controller.step()
        (status,) = self.read_status().status.apps
        return status

    def read_status(self) -> ServeControllerStatus:
        return ServeControllerStatus.model_validate_json((self.folder / STATUS_NAME).read_bytes())


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ControllerHarness:
    from windlass_pipelines.serve import controller as module

    serve = FakeServe()
    monkeypatch.setattr(module, "serve", serve)
    monkeypatch.setattr(module, "routes", lambda _url: {f"/{key}" for key in serve.applications})
    monkeypatch.setattr(module, "run_target", lambda app, _hosts: app.key)
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "model.safetensors").write_bytes(b"weights")
    return ControllerHarness(tmp_path, serve, served_app("live", artifact, Task.CHAT, digest=seal(artifact)))


def test_an_app_without_memory_is_restarted_with_a_backoff(harness: ControllerHarness) -> None:
    assert harness.step().state is AppState.READY
    harness.serve.failure_message = NO_MEMORY
    harness.serve.set_state("live", "UNHEALTHY")
    paused = harness.step()
    assert (paused.state, paused.transient) == (AppState.FAILED, True)
    assert "no free memory" in paused.message
    assert "restarting after a backoff of 5 s" in paused.message
    assert harness.step(4.9).state is AppState.FAILED
    assert harness.serve.started == ["live"]
    harness.step(0.2)  # it is tried, and there is no memory yet
    assert "after a backoff of 10 s" in harness.step().message
    harness.serve.failure_message = ""
    harness.step(10.1)
    assert harness.step().state is AppState.READY
    assert harness.serve.started == ["live"] * 3


def test_an_app_with_missing_files_is_not_restarted(harness: ControllerHarness) -> None:
    harness.step()
    harness.serve.failure_message = "ModelLoadError: a weight is missing"
    harness.serve.set_state("live", "UNHEALTHY")
    harness.step()
    assert harness.step(10_000).message == "a weight is missing"
    assert harness.serve.started == ["live"]


def test_the_status_has_the_digest_of_the_processed_desired_state(harness: ControllerHarness) -> None:
    harness.step()
    first = (harness.folder / DESIRED_NAME).read_bytes()
    assert harness.read_status().desired_digest == digest(first)
    harness.write_desired()
    assert harness.read_status().desired_digest == digest(first)
    harness.controller.step()
    assert (harness.read_status().status.apps, harness.read_status().desired_digest) == (
        (),
        digest((harness.folder / DESIRED_NAME).read_bytes()),
    )
