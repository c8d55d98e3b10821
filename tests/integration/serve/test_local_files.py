"""``LocalServing`` and its state files, with an idle controller process."""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest
from tests.unit.serve.tiny_artifacts import served_app

from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.domain.errors import StorageFullError, UnavailableError
from windlass.domain.specs import Task
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.ports import JoinableRay
from windlass.serving.local import LocalServing
from windlass.serving.state_files import DESIRED_NAME, STATUS_NAME, Heartbeat, ServeControllerStatus, digest

pytestmark = pytest.mark.processes


@dataclass
class Ray(JoinableRay):
    """A Ray at a fixed address; ``ensure`` blocks until ``ready`` is set, and then raises ``error``."""

    listening_at: str
    ready: Event = field(default_factory=Event)
    error: UnavailableError | None = None

    def ensure(self) -> str:
        assert self.ready.wait(20)
        if self.error is not None:
            raise self.error
        return self.listening_at

    def address(self) -> str:
        return self.listening_at

    def environment(self) -> dict[str, str]:
        return {}

    def stop(self) -> None:
        return


@dataclass
class LocalServingHarness:
    root: Path
    ray: Ray
    python: Path
    now: float = 0.0

    def __post_init__(self) -> None:
        self.serving = LocalServing(self.root, self.ray, str(self.python), clock=lambda: self.now)

    def write_status(self, *keys: str, desired: bytes | None = None, base_url: str = "http://127.0.0.1:9") -> None:
        """Write the controller's status file."""
        record = ProcessRecord.load(self.root / "process.json")
        assert record is not None
        assert record.pid is not None
        content = (self.root / DESIRED_NAME).read_bytes() if desired is None else desired
        apps = tuple(AppStatus(key=key, state=AppState.READY, ready_replicas=1) for key in keys)
        status = ServeControllerStatus(
            controller=record.pid,
            desired_digest=digest(content),
            base_url=base_url,
            status=ServingStatus(apps=apps),
        )
        (self.root / STATUS_NAME).write_text(status.model_dump_json())

    def observed_states(self) -> tuple[dict[str, AppState], bool]:
        status = self.serving.status()
        return {app.key: app.state for app in status.apps}, status.complete

    def apply(self, *apps: ServedApp) -> ProcessRecord:
        """Apply; return the running controller once it has started."""
        self.serving.apply(apps)
        deadline = time.monotonic() + 20
        while (record := ProcessRecord.load(self.root / "process.json")) is None or not processes.is_alive(record):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return record

    def kill_controller(self) -> None:
        record = ProcessRecord.load(self.root / "process.json")
        assert record is not None
        processes.kill(record)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[LocalServingHarness]:
    idle = tmp_path / "idle"
    idle.write_text('#!/bin/sh\ncase "$*" in *--shut-down) exit 0 ;; esac\nexec sleep 600\n')
    idle.chmod(0o700)
    with socket.create_server(("127.0.0.1", 0)) as ray:
        harness = LocalServingHarness(tmp_path / "serving", Ray(_address(ray)), idle)
        harness.ray.ready.set()
        yield harness
        harness.ray.ready.set()
        harness.serving.stop()


def _address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def app(key: str) -> ServedApp:
    return served_app(key, Path("/a"), Task.CHAT, digest="0" * 64)


def test_an_undesired_app_is_terminating_until_the_controller_reports_it_gone(harness: LocalServingHarness) -> None:
    harness.apply(app("old"), app("kept"))
    assert harness.observed_states() == ({"old": AppState.DEPLOYING, "kept": AppState.DEPLOYING}, False)
    harness.write_status("old", "kept")
    assert harness.observed_states() == ({"old": AppState.READY, "kept": AppState.READY}, True)
    harness.apply(app("kept"))
    assert harness.observed_states() == ({"kept": AppState.READY, "old": AppState.TERMINATING}, False)
    harness.write_status("kept", "old")
    assert harness.observed_states() == ({"kept": AppState.READY, "old": AppState.TERMINATING}, True)
    harness.write_status("kept")
    assert harness.observed_states() == ({"kept": AppState.READY}, True)


def test_the_status_is_incomplete_until_the_controller_processes_the_newest_desired_state(
    harness: LocalServingHarness,
) -> None:
    harness.apply(app("new"))
    before = (harness.root / DESIRED_NAME).read_bytes()
    harness.apply()
    harness.write_status(desired=before)  # the host may be deploying it at this moment
    assert harness.observed_states() == ({}, False)
    harness.write_status()
    assert harness.observed_states() == ({}, True)


def test_a_serve_without_controller_is_adopted_and_shut_down(harness: LocalServingHarness) -> None:
    harness.apply(app("left"))
    (harness.root / "port").write_text("8000")
    harness.kill_controller()
    assert harness.observed_states() == ({"left": AppState.DEPLOYING}, False)
    harness.apply()
    assert harness.observed_states() == ({}, False)
    harness.write_status()
    assert harness.observed_states() == ({}, True)
    harness.kill_controller()
    (harness.root / "port").unlink()
    harness.serving.apply([])
    assert harness.observed_states() == ({}, True)


def test_the_last_status_is_kept_while_serve_answers_without_a_controller(harness: LocalServingHarness) -> None:
    harness.apply(app("live"))
    with socket.create_server(("127.0.0.1", 0)) as serve:
        harness.write_status("live", base_url=f"http://{_address(serve)}")
        harness.kill_controller()
        assert harness.observed_states() == ({"live": AppState.READY}, False)
    assert harness.observed_states() == ({"live": AppState.DEPLOYING}, True)


def test_only_a_missing_heartbeat_makes_a_controller_count_as_hung(harness: LocalServingHarness) -> None:
    first = harness.apply(app("live"))
    heartbeat = Heartbeat(harness.root)
    harness.write_status("live")
    for _ in range(3):
        heartbeat.beat()
        # The wall clock jumped: the files look very old.
        for path in harness.root.iterdir():
            os.utime(path, (0, 0))
        harness.now += 89
        assert harness.apply(app("live")) == first
    harness.now += 2
    assert harness.apply(app("live")) == first, "89 + 2 seconds since the last beat was observed"
    harness.now += 91
    harness.serving.apply([app("live")])
    deadline = time.monotonic() + 20
    while (record := ProcessRecord.load(harness.root / "process.json")) == first:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert record is not None
    assert not processes.is_alive(first)


def test_apply_does_not_wait_for_ray_and_reports_why_it_does_not_start(harness: LocalServingHarness) -> None:
    harness.ray.ready.clear()
    harness.serving.apply([app("live")])
    (waiting,) = harness.serving.status().apps
    assert (waiting.state, waiting.message) == (AppState.DEPLOYING, "the model server is starting")
    harness.ray.error = UnavailableError("Ray does not start: no memory")
    harness.ray.ready.set()
    deadline = time.monotonic() + 20
    while harness.serving.status().apps[0].message != "Ray does not start: no memory":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(UnavailableError, match="no memory"):
        harness.serving.apply([app("live")])
    harness.serving.stop()
    harness.ray.error = None
    harness.apply(app("live"))


def test_a_controller_that_exits_is_restarted_with_a_backoff(harness: LocalServingHarness) -> None:
    starts = harness.root.parent / "starts"
    harness.python.write_text(f"#!/bin/sh\necho >> {starts}\n")
    for _ in range(600):
        with contextlib.suppress(UnavailableError):
            harness.serving.apply([app("live")])
        assert harness.serving._starter is not None
        harness.serving._starter.join()
        harness.now += 0.5
    time.sleep(0.2)  # the last process writes its line
    count = len(starts.read_text().splitlines())
    assert 6 <= count <= 14, "300 seconds: delays of 2, 4, 8, 16, 32, 60, 60, ... seconds, each up to half shorter"


def test_a_full_disk_is_an_error_and_keeps_the_desired_state(
    harness: LocalServingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.apply(app("live"))
    before = (harness.root / DESIRED_NAME).read_bytes()

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StorageFullError, match="No space left"):
        harness.serving.apply([app("other")])
    monkeypatch.undo()
    assert (harness.root / DESIRED_NAME).read_bytes() == before
