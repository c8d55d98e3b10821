"""What the server's side of serving makes of its files, with a host process that does nothing."""

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.serve.tiny_artifacts import served

from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.domain.specs import Task
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.serving.files import STATUS_NAME, WISH_NAME, HostStatus, digest
from windlass.serving.local import LocalServing

pytestmark = pytest.mark.processes


@dataclass
class Ray:
    """A Ray of which nothing is used but its address."""

    address: str

    def ensure(self) -> str:
        return self.address

    def environment(self) -> dict[str, str]:
        return {}


@dataclass
class World:
    root: Path
    serving: LocalServing

    def says(self, *keys: str, wish: bytes | None = None) -> None:
        """Write what the host would."""
        content = (self.root / WISH_NAME).read_bytes() if wish is None else wish
        apps = tuple(AppStatus(key=key, state=AppState.READY, ready_replicas=1) for key in keys)
        status = HostStatus(wish=digest(content), status=ServingStatus(base_url="http://127.0.0.1:9", apps=apps))
        (self.root / STATUS_NAME).write_text(status.model_dump_json())

    def sees(self) -> tuple[dict[str, AppState], bool]:
        status = self.serving.status()
        return {app.key: app.state for app in status.apps}, status.complete

    def kill_host(self) -> None:
        record = ProcessRecord.load(self.root / "process.json")
        assert record is not None
        processes.kill(record)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    idle = tmp_path / "idle"
    idle.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import time; time.sleep(600)'\n")
    idle.chmod(0o700)
    with socket.create_server(("127.0.0.1", 0)) as ray:
        root = tmp_path / "serving"
        made = World(root, LocalServing(root, Ray(f"127.0.0.1:{ray.getsockname()[1]}"), str(idle)))
        yield made
        made.kill_host()


def app(key: str) -> ServedApp:
    return served(key, Path("/a"), Task.CHAT, digest="0" * 64)


def test_what_is_no_longer_wished_is_leaving_as_long_as_the_host_sees_it(world: World) -> None:
    world.serving.apply([app("old"), app("kept")])
    assert world.sees() == ({"old": AppState.DEPLOYING, "kept": AppState.DEPLOYING}, False)
    world.says("old", "kept")
    assert world.sees() == ({"old": AppState.READY, "kept": AppState.READY}, True)
    world.serving.apply([app("kept")])
    assert world.sees() == ({"kept": AppState.READY, "old": AppState.LEAVING}, False)
    world.says("kept", "old")
    assert world.sees() == ({"kept": AppState.READY, "old": AppState.LEAVING}, True)
    world.says("kept")
    assert world.sees() == ({"kept": AppState.READY}, True)


def test_a_host_that_has_not_seen_the_newest_wish_cannot_say_that_all_is_named(world: World) -> None:
    world.serving.apply([app("new")])
    before = (world.root / WISH_NAME).read_bytes()
    world.serving.apply([])
    world.says(wish=before)  # the host may be deploying it at this moment
    assert world.sees() == ({}, False)
    world.says()
    assert world.sees() == ({}, True)


def test_a_serve_that_lost_its_host_is_looked_after_until_nothing_of_it_is_left(world: World) -> None:
    world.serving.apply([app("left")])
    (world.root / "port").write_text("8000")
    world.kill_host()
    assert world.sees() == ({"left": AppState.DEPLOYING}, False)
    world.serving.apply([])
    assert world.sees() == ({}, False)
    record = ProcessRecord.load(world.root / "process.json")
    assert record is not None
    assert processes.alive(record), "nobody would end what is left"
    world.says()
    assert world.sees() == ({}, True)
    world.kill_host()
    (world.root / "port").unlink()
    world.serving.apply([])
    assert world.sees() == ({}, True)
