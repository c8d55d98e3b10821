"""Artifacts of an object store are copied and verified before they are served."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.factories.served_apps import make_served_app
from tests.fakes.backends import MemoryServing

from windlass.domain.endpoints import AppState, AppStatus, ServedApp
from windlass.runtime.artifacts import seal
from windlass.serving.staged import StagedServing
from windlass.storage.local import LocalObjectStore

PREFIX = "models/m1"


@dataclass
class Staged:
    """A store with one artifact, and model servers in memory."""

    folder: Path
    now: float = 0.0
    backend: MemoryServing = field(default_factory=MemoryServing)

    def __post_init__(self) -> None:
        self.store = LocalObjectStore(self.folder / "store")
        self.source = self.folder / "store" / PREFIX
        (self.source / "deep").mkdir(parents=True)
        (self.source / "weights").write_bytes(b"w" * 100)
        (self.source / "deep" / "config.json").write_text("{}")
        self.app = make_served_app("a", artifact_uri=self.store.uri(PREFIX), digest=seal(self.source).digest())
        self.serving = StagedServing(self.backend, self.store, self.folder / "models", clock=lambda: self.now)

    def status(self, app: ServedApp) -> AppStatus:
        return next(each for each in self.serving.status().apps if each.key == app.key)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            self.serving.apply([self.app])


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    return Staged(tmp_path)


def test_an_artifact_is_served_from_its_copy(staged: Staged) -> None:
    staged.serving.apply([staged.app])
    staged.until(lambda: "a" in staged.backend.apps)
    copy = staged.folder / "models" / staged.app.digest
    assert staged.backend.apps["a"].artifact_uri == copy.as_uri()
    assert (copy / "deep" / "config.json").read_text() == "{}"
    assert staged.status(staged.app).state is AppState.READY
    staged.serving.apply([])
    assert not copy.exists(), "nothing is served any more"


def test_a_damaged_artifact_fails_for_good(staged: Staged) -> None:
    (staged.source / "weights").write_bytes(b"x" * 100)
    staged.serving.apply([staged.app])
    staged.until(lambda: staged.status(staged.app).state is AppState.FAILED)
    assert not staged.status(staged.app).transient
    (staged.source / "weights").write_bytes(b"w" * 100)
    staged.now += 3600
    staged.serving.apply([staged.app])
    assert staged.status(staged.app).state is AppState.FAILED
    assert staged.backend.apps == {}


def test_a_store_that_fails_is_asked_again_after_a_delay(staged: Staged) -> None:
    hidden = staged.source.rename(staged.source.with_name("hidden"))
    staged.serving.apply([staged.app])
    staged.until(lambda: "cannot be copied" in staged.status(staged.app).message)
    assert staged.status(staged.app).transient
    hidden.rename(staged.source)
    staged.serving.apply([staged.app])
    assert staged.backend.apps == {}, "the delay is not over"
    staged.now += 61
    staged.until(lambda: "a" in staged.backend.apps)
