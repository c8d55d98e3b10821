"""Fixtures: the CLI with a control plane on a real socket and in-memory back ends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.factories.http_servers import serve
from tests.fakes.harness import ControlPlaneHarness

from windlass.cli.main import run


class Result(NamedTuple):
    """Exit code and output of a CLI call."""

    code: int
    out: str
    err: str


Windlass = Callable[..., Result]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    folder = tmp_path / "server"
    folder.mkdir()
    harness = ControlPlaneHarness(folder)
    harness.create_project("default")
    harness.create_base_model()
    harness.create_dataset("default")
    yield harness
    harness.close()


@pytest.fixture
def url(harness: ControlPlaneHarness) -> Iterator[str]:
    with serve(harness.app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def windlass(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Windlass:
    """Call the CLI without a server, settings or data directory."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "WINDLASS_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Result:
        code = run(arguments)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def cli(windlass: Windlass, url: str, harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch) -> Windlass:
    """Call the CLI as an admin."""
    monkeypatch.setenv("WINDLASS_URL", url)
    monkeypatch.setenv("WINDLASS_KEY", harness.client.headers["Authorization"].removeprefix("Bearer "))
    return windlass
