"""`windlass up` and `down` with the real server process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.cli import local_server

pytestmark = pytest.mark.processes

_SECONDS = 120


def _command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "windlass.cli", *arguments, "--home", str(home)]


def _run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, own = _command(home, *arguments), os.environ | environment
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=_SECONDS, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    server = local_server.read(folder)
    if server is not None:
        assert local_server.stop(server, _SECONDS)


def _has_exited(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_detached_server_is_found_and_stopped(home: Path) -> None:
    up = _run(home, "up", "--detach", "--port", "0", "--json")
    assert up.returncode == 0, up.stderr
    details = json.loads(up.stdout)
    assert Path(details["key_file"]).stat().st_mode & 0o077 == 0
    environment = {**os.environ, "WINDLASS_HOME": str(home)}
    status = [sys.executable, "-m", "windlass.cli", "status", "--json"]
    result = subprocess.run(status, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=True)
    assert json.loads(result.stdout)["pid"] == details["pid"]
    again = _run(home, "up", "--detach")
    assert again.returncode == 0
    assert details["url"] in again.stdout
    moved = _run(home, "up", "--detach", "--port", "9")
    assert details["url"] in moved.stdout
    assert "--port 9 has no effect" in moved.stderr
    second = _run(home, "up")
    assert second.returncode == 5
    assert str(details["pid"]) in second.stderr
    down = _run(home, "down")
    assert down.returncode == 0
    assert _has_exited(details["pid"])
    assert _run(home, "down").returncode == 0


def test_ctrl_c_stops_the_foreground_server(home: Path) -> None:
    command = _command(home, "up", "--port", "0")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("windlass is ready at http://127.0.0.1:")
        server = local_server.read(home)
        assert server is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(_SECONDS) == 0
    assert _has_exited(server.pid)


def test_port_in_use_is_reported_with_a_hint(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        up = _run(home, "up", "--detach", "--port", str(taken.getsockname()[1]))
    assert up.returncode == 7
    assert "--port" in up.stderr
    assert local_server.read(home) is None


def test_killed_server_is_reported(home: Path) -> None:
    command = _command(home, "up", "--port", "0")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        server = local_server.read(home)
        assert server is not None
        os.kill(server.pid, signal.SIGKILL)
        assert process.wait(_SECONDS) == 1
        assert "signal 9" in process.stderr.read()
    assert local_server.read(home) is None


def test_data_directory_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    started = time.monotonic()
    up = _run(file / "home", "up", "--detach")
    assert up.returncode == 2
    assert str(file) in up.stderr
    assert time.monotonic() - started < _SECONDS


def test_cluster_server_without_a_cluster_is_reported(tmp_path: Path) -> None:
    up = _run(tmp_path / "home", "up", "--cluster", "--detach", "--port", "0", KUBECONFIG=str(tmp_path / "none"))
    assert up.returncode == 2
    assert "no access to a cluster" in up.stderr


def test_data_directory_of_another_mode_is_rejected(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mode").write_text("embedded\n")
    up = _run(home, "up", "--cluster", "--detach", "--port", "0", KUBECONFIG=str(tmp_path / "none"))
    assert up.returncode == 2
    assert "is the data directory of a server in embedded mode" in up.stderr
