"""Starts, finds and stops the server process of a data directory."""

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from windlass.domain.errors import ConflictError, InvalidError, UnavailableError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord

DEFAULT_PORT = 8741
KEY_FILE = "admin.key"
LOG_FILE = "server.log"

_SERVER_FILE = "server.json"
_MODULES = {
    "api": ("fastapi", "sqlmodel", "uvicorn", "alembic", "psutil", "kubernetes"),
    "data": ("pyarrow", "datasketch", "tokenizers"),
    "pipelines": ("kfp",),
    "train": ("ray", "torch", "transformers", "peft", "safetensors"),
}
_START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_START_TIME_TOLERANCE = 3.0
_LOG_LIMIT = 16 << 20
_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class LocalServer:
    """The content of ``server.json``, which a running server writes into its data directory."""

    home: Path
    pid: int
    start_time: float
    url: str
    version: str

    @property
    def key_file(self) -> Path:
        """The file with the admin key."""
        return self.home / KEY_FILE

    @property
    def running(self) -> bool:
        """Whether the process still runs; the start time is compared because pids are reused."""
        started = _started(self.pid)
        return started is not None and abs(started - self.start_time) < _START_TIME_TOLERANCE


def missing_extras(wanted: Collection[str] = tuple(_MODULES)) -> dict[str, list[str]]:
    """Return the missing modules by extra."""
    missing = {
        extra: [name for name in names if importlib.util.find_spec(name) is None]
        for extra, names in _MODULES.items()
        if extra in wanted
    }
    return {extra: names for extra, names in missing.items() if names}


def read(home: Path) -> LocalServer | None:
    """Return the server of a data directory, None if none runs.

    Raises:
        InvalidError: the folder's ``server.json`` cannot be read.
    """
    path = home / _SERVER_FILE
    try:
        data = json.loads(path.read_bytes())
        server = LocalServer(home, int(data["pid"]), float(data["start_time"]), str(data["url"]), str(data["version"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidError(f"{path} cannot be read: {error}", hint="stop the server and remove the file") from error
    return server if server.running else None


def start(
    home: Path, port: int, host: str, environment: Mapping[str, str] = os.environ, *, cluster: bool = False
) -> ProcessRecord:
    """Start the server in a new process session; its output goes to ``server.log`` in the data directory.

    With ``cluster`` it is the control plane of the cluster that ``environment`` selects, else the embedded server.

    Raises:
        UnavailableError: required packages are not installed.
        InvalidError: the data directory cannot be created or written.
        ConflictError: a server already runs.
    """
    missing = missing_extras(("api", "data") if cluster else tuple(_MODULES))
    if missing:
        modules = ", ".join(name for names in missing.values() for name in names)
        raise UnavailableError(
            f"the server's packages are not installed: {modules}",
            hint="pip install 'windlass[embedded]', or set WINDLASS_URL to the address of another server",
        )
    running = read(home)
    if running is not None:
        raise ConflictError(
            f"a server already runs on {home}: {running.url} (pid {running.pid})",
            hint="use it, stop it with `windlass down`, or choose another --home",
        )
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        _rotate_log(home / LOG_FILE)
    except OSError as error:
        raise InvalidError(
            f"{home} cannot be created or written: {error.strerror}", hint="choose another --home"
        ) from error
    # -P: modules in the current folder must not shadow the server's.
    argv = [sys.executable, "-P", "-m", "windlass_api.cluster" if cluster else "windlass_api.embedded"]
    argv += ["--home", str(home), "--host", host, "--port", str(port)]
    argv += ["--internal-port", "0"] if cluster else []  # no pod connects to a server outside the cluster
    return processes.start(argv, environment=environment, log=home / LOG_FILE, record=processes.new_record())


def wait_ready(home: Path, process: ProcessRecord) -> LocalServer | int:
    """Return the server once it accepts requests, or its exit code if it exited.

    Raises:
        UnavailableError: the server did neither within a minute; it is killed.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        code = processes.exit_code(process)
        if code is not None:
            return code
        server = read(home)
        if server is not None and server.pid == process.pid:
            return server
        time.sleep(_POLL_SECONDS)
    processes.kill(process, grace_seconds=5.0)
    raise UnavailableError(
        f"the server was not ready after {_START_SECONDS:.0f} s", hint=f"see its log: {home / LOG_FILE}"
    )


def stop(server: LocalServer, seconds: float) -> bool:
    """Send SIGTERM; return whether the server exits within ``seconds``. It stops everything that it started."""
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while server.running:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def log_tail(home: Path) -> str:
    """Return the last lines of the server's log."""
    try:
        with (home / LOG_FILE).open("rb") as stream:
            stream.seek(max(stream.seek(0, os.SEEK_END) - (64 << 10), 0))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _rotate_log(log: Path) -> None:
    """Rename a large log to ``server.log.1``."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def _started(pid: int) -> float | None:
    """Return the start time of a running process in Unix seconds: field 22 of /proc/PID/stat, see proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        booted = next(line for line in Path("/proc/stat").read_text("ascii").splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return None
    if fields[0] in "ZX":
        return None
    return float(booted.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
