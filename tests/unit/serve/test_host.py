"""The host's steps over a Serve in memory: what is paused comes back, what is bad stays away."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.unit.serve.tiny_artifacts import seal, served

from windlass.domain.endpoints import AppState, AppStatus, ServedApp
from windlass.domain.specs import Task
from windlass.serving.files import STATUS_NAME, WISH_NAME, HostStatus, Wish, digest

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
    """As much of ``ray.serve`` as the host calls; what is deployed runs at once unless ``complaint`` says why not."""

    applications: dict[str, Application] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    complaint: str = ""

    def status(self) -> "FakeServe":
        return self

    def delete(self, key: str, *, _blocking: bool) -> None:
        del self.applications[key]

    def run_many(self, targets: list[str], **_options: Any) -> None:
        for key in targets:
            self.started.append(key)
            self.become(key, "DEPLOY_FAILED" if self.complaint else "RUNNING")

    def become(self, key: str, status: str) -> None:
        from ray.serve.schema import ApplicationStatus, ReplicaState

        states = {ReplicaState.RUNNING: 1} if status == "RUNNING" else {}
        self.applications[key] = Application(ApplicationStatus[status], {"model": Deployment(states, self.complaint)})


@dataclass
class World:
    """One host over a fake Serve, with a clock by hand and one wished application."""

    folder: Path
    serve: FakeServe
    app: ServedApp
    now: float = 0.0

    def __post_init__(self) -> None:
        from windlass_pipelines.serve.host import Host

        self.host = Host(self.folder, "http://127.0.0.1:9", clock=lambda: self.now)
        self.wish(self.app)

    def wish(self, *apps: ServedApp) -> None:
        (self.folder / WISH_NAME).write_text(Wish(apps=apps).model_dump_json())

    def step(self, seconds: float = 0) -> AppStatus:
        self.now += seconds
        self.host.step()
        (status,) = self.said().status.apps
        return status

    def said(self) -> HostStatus:
        return HostStatus.model_validate_json((self.folder / STATUS_NAME).read_bytes())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    from windlass_pipelines.serve import host as module

    serve = FakeServe()
    monkeypatch.setattr(module, "serve", serve)
    monkeypatch.setattr(module, "routes", lambda _url: {f"/{key}" for key in serve.applications})
    monkeypatch.setattr(module, "target", lambda app, _hosts: app.key)
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "model.safetensors").write_bytes(b"weights")
    return World(tmp_path, serve, served("live", artifact, Task.CHAT, digest=seal(artifact)))


def test_a_live_application_that_finds_no_memory_comes_back_when_there_is_some(world: World) -> None:
    assert world.step().state is AppState.READY
    world.serve.complaint = NO_MEMORY
    world.serve.become("live", "UNHEALTHY")
    paused = world.step()
    assert (paused.state, paused.passing) == (AppState.FAILED, True)
    assert "no free memory" in paused.message
    assert "started again after a pause of 5 s" in paused.message
    assert world.step(4.9).state is AppState.FAILED
    assert world.serve.started == ["live"]
    world.step(0.2)  # it is tried, and there is no memory yet
    assert "after a pause of 10 s" in world.step().message
    world.serve.complaint = ""
    world.step(10.1)
    assert world.step().state is AppState.READY
    assert world.serve.started == ["live"] * 3


def test_a_live_application_whose_files_have_gone_is_not_started_again(world: World) -> None:
    world.step()
    world.serve.complaint = "ModelLoadError: a weight is missing"
    world.serve.become("live", "UNHEALTHY")
    world.step()
    assert world.step(10_000).message == "a weight is missing"
    assert world.serve.started == ["live"]


def test_the_status_says_which_wish_it_is_of_and_what_still_leaves(world: World) -> None:
    world.step()
    first = (world.folder / WISH_NAME).read_bytes()
    assert world.said().wish == digest(first)
    world.wish()
    assert world.said().wish == digest(first)
    world.host.step()
    assert (world.said().status.apps, world.said().wish) == ((), digest((world.folder / WISH_NAME).read_bytes()))
