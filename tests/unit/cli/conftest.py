"""The CLI against a real control plane on a real socket; only the back ends behind it are in memory."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import uvicorn
from tests.fakes.house import House

from windlass.cli.main import run


class Result(NamedTuple):
    """What a call of the CLI left behind."""

    code: int
    out: str
    err: str


Windlass = Callable[..., Result]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    folder = tmp_path / "house"
    folder.mkdir()
    made = House(folder)
    made.project("default")
    made.base_model()
    made.dataset("default")
    yield made
    made.close()


@pytest.fixture
def url(house: House) -> Iterator[str]:
    config = uvicorn.Config(house.app, port=0, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    up = threading.Event()

    def serve() -> None:
        startup = server.startup

        async def starting(sockets: object = None) -> None:
            await startup(sockets)  # type: ignore[arg-type]  # handed through
            up.set()

        server.startup = starting  # type: ignore[method-assign]  # tells when it listens
        server.run()

    thread = threading.Thread(target=serve)
    thread.start()
    assert up.wait(30)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join()


@pytest.fixture
def windlass(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Windlass:
    """Call the CLI as a user without a server, settings or data folder."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "WINDLASS_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Result:
        code = run(arguments)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return call


@pytest.fixture
def here(windlass: Windlass, url: str, house: House, monkeypatch: pytest.MonkeyPatch) -> Windlass:
    """Call the CLI as the admin of the house."""
    monkeypatch.setenv("WINDLASS_URL", url)
    monkeypatch.setenv("WINDLASS_KEY", house.client.headers["Authorization"].removeprefix("Bearer "))
    return windlass
