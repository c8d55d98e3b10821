"""The embedded server of a data folder, as a process: start it, find it, stop it."""

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
_LOOK_SECONDS = 0.05
_SAME_START_SECONDS = 3.0
_LOG_LIMIT = 16 << 20
_LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class LocalServer:
    """What a running server wrote down in its data folder."""

    home: Path
    pid: int
    start_time: float
    url: str
    version: str

    @property
    def key_file(self) -> Path:
        """Where its admin key is."""
        return self.home / KEY_FILE

    @property
    def running(self) -> bool:
        """Whether that very process still lives; a pid alone may be another's by now."""
        started = _started(self.pid)
        return started is not None and abs(started - self.start_time) < _SAME_START_SECONDS


def missing_extras(wanted: Collection[str] = tuple(_MODULES)) -> dict[str, list[str]]:
    """Return the extras that lack a module here, with those modules."""
    found = {
        extra: [name for name in names if importlib.util.find_spec(name) is None]
        for extra, names in _MODULES.items()
        if extra in wanted
    }
    return {extra: names for extra, names in found.items() if names}


def read(home: Path) -> LocalServer | None:
    """Return the server that runs over a data folder, None when none does.

    Raises:
        InvalidError: the folder's ``server.json`` cannot be read.
    """
    path = home / _SERVER_FILE
    try:
        said = json.loads(path.read_bytes())
        server = LocalServer(home, int(said["pid"]), float(said["start_time"]), str(said["url"]), str(said["version"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidError(f"{path} cannot be read: {error}", hint="stop the server and remove the file") from error
    return server if server.running else None


def start(
    home: Path, port: int, host: str, environment: Mapping[str, str] = os.environ, *, cluster: bool = False
) -> ProcessRecord:
    """Start the server in a session of its own; its output goes to ``server.log`` in the data folder.

    ``cluster``: the control plane of the cluster that the environment names, not the embedded one.

    Raises:
        UnavailableError: parts of it are not installed.
        InvalidError: the data folder cannot be made.
        ConflictError: one runs already.
    """
    missing = missing_extras(("api", "data") if cluster else tuple(_MODULES))
    if missing:
        modules = ", ".join(name for names in missing.values() for name in names)
        raise UnavailableError(
            f"this installation has the CLI alone; the server needs {modules}",
            hint="pip install 'windlass[embedded]', or point WINDLASS_URL at a server that runs elsewhere",
        )
    running = read(home)
    if running is not None:
        raise ConflictError(
            f"a server runs over {home} already: {running.url} (pid {running.pid})",
            hint="use it, stop it with `windlass down`, or choose another --home",
        )
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        _turn_log(home / LOG_FILE)
    except OSError as error:
        raise InvalidError(
            f"{home} cannot be made or written: {error.strerror}", hint="choose another --home"
        ) from error
    # -P: modules in the folder where the user happens to stand must not shadow the server's.
    argv = [sys.executable, "-P", "-m", "windlass_api.cluster" if cluster else "windlass_api.embedded"]
    argv += ["--home", str(home), "--host", host, "--port", str(port)]
    return processes.start(argv, environment=environment, log=home / LOG_FILE, record=processes.claim())


def wait_ready(home: Path, process: ProcessRecord) -> LocalServer | int:
    """Return the server once it accepts requests, or its exit code when it ended instead.

    Raises:
        UnavailableError: neither happened in a minute; the process is ended.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        code = processes.exit_code(process)
        if code is not None:
            return code
        server = read(home)
        if server is not None and server.pid == process.pid:
            return server
        time.sleep(_LOOK_SECONDS)
    processes.kill(process, grace_seconds=5.0)
    raise UnavailableError(
        f"the server was not ready after {_START_SECONDS:.0f} s", hint=f"its last words are in {home / LOG_FILE}"
    )


def stop(server: LocalServer, seconds: float) -> bool:
    """Ask the server to stop, with everything that it started; tell whether it is gone in time."""
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while server.running:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def last_words(home: Path) -> str:
    """Return the last lines of the server's log."""
    try:
        with (home / LOG_FILE).open("rb") as stream:
            stream.seek(max(stream.seek(0, os.SEEK_END) - (64 << 10), 0))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-_LAST_LINES:])


def _turn_log(log: Path) -> None:
    """Keep one old log beside the new one."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def _started(pid: int) -> float | None:
    """Return when a running process started, Unix seconds: proc(5), field 22 of stat, in clock ticks since boot."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        booted = next(line for line in Path("/proc/stat").read_text("ascii").splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return None
    if fields[0] in "ZX":
        return None
    return float(booted.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
