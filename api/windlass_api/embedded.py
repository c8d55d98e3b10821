"""Composition root of ``windlass up``: API and worker in one process, SQLite, a local folder, local back ends."""

import argparse
import contextlib
import errno
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import uvicorn
from pydantic import ValidationError

import windlass
from windlass.db.migrate import migrate
from windlass.db.session import SqlDatabase, sqlite_engine
from windlass.domain.errors import ConflictError, WindlassError
from windlass.domain.projects import Pool, Principal, StoredQuota
from windlass.orchestration import processes
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.orchestration.local import LocalPipelineBackend
from windlass.orchestration.model_import import EmbeddedModelImporter
from windlass.orchestration.ray_head import LocalRay
from windlass.orchestration.run_folders import LocalRunFolders
from windlass.services.access import Gatekeeper, Keys
from windlass.services.backing import Backing, Caller
from windlass.services.processing import Processing
from windlass.services.projects import Projects
from windlass.services.retention import Retention
from windlass.services.rollouts import Rollouts
from windlass.serving.local import LocalServing
from windlass.serving.probe import probe
from windlass.settings import LimitSettings, ServerSettings, WorkerSettings
from windlass.storage.local import LocalObjectStore
from windlass.telemetry import set_up_logging
from windlass_api.app import create_app
from windlass_api.dependencies import Wiring
from windlass_api.worker import Worker, scheduling

EXIT_SETTINGS, EXIT_LOCKED, EXIT_PORT = 2, 5, 7
_CPU_SLOTS = 2


class SystemClock:
    """``ports.Clock`` by this machine's clock."""

    def now(self) -> datetime:
        """Return the current time."""
        return datetime.now(UTC)


@dataclass(frozen=True)
class Home:
    """The data folder: everything that a server leaves on disk."""

    path: Path

    def private_file(self, name: str, content: str) -> str:
        """Return the file's content, made 0600 on the first call; a kill in between leaves none or a whole one."""
        file = self.path / name
        if not file.exists():
            draft = self.path / f".{name}.{secrets.token_hex(4)}"
            with os.fdopen(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
            ) as stream:
                stream.write(content + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        return file.read_text(encoding="ascii").strip()

    def publish(self, url: str) -> None:
        """Write ``server.json``, by which the CLI finds the server."""
        me = psutil.Process()
        facts = {"pid": me.pid, "start_time": me.create_time(), "url": url, "version": windlass.__version__}
        draft = self.path / ".server.json"
        draft.write_text(json.dumps(facts), encoding="utf-8")
        draft.replace(self.path / "server.json")

    def withdraw(self) -> None:
        """Remove ``server.json``."""
        (self.path / "server.json").unlink(missing_ok=True)


@dataclass
class Embedded:
    """The parts of one embedded server."""

    home: Home
    wiring: Wiring
    worker: Worker
    ray: LocalRay
    serving: LocalServing
    backend: LocalPipelineBackend
    database: SqlDatabase

    def stop_children(self) -> None:
        """End runs, serving and Ray: nothing is left running, no port is held. Jobs go on from checkpoints later."""
        with contextlib.ExitStack() as stack:  # whatever one of them meets, the others are stopped too
            stack.callback(self.ray.stop)
            stack.callback(self.serving.stop)
            stack.callback(self.worker.scheduling.stop_all)


def build(home: Home, url: str) -> Embedded:
    """Wire everything together over one data folder."""
    worker_settings, limits, clock = WorkerSettings(), LimitSettings(), SystemClock()
    engine = sqlite_engine(home.path / "windlass.db")
    migrate(engine)
    database = SqlDatabase(engine, clock)
    backing = Backing(database, LocalObjectStore(home.path / "store", limits.reserve_bytes), clock)
    pepper = home.private_file("pepper", secrets.token_hex(32)).encode()
    gatekeeper = Gatekeeper(database, clock, pepper)
    ray = LocalRay(home.path / "ray", sys.executable)
    backend = LocalPipelineBackend(home.path / "runs", sys.executable, environment=ray.environment())
    with database.read() as work:
        backend.readdress(url, [run.name for run in work.everywhere().runs.all(ended_at=None)])
    serving = LocalServing(home.path / "serve", ray, sys.executable)
    processor = EmbeddedDataProcessor(home.path / "data", sys.executable)
    importer = EmbeddedModelImporter(home.path / "imports", sys.executable)

    def workspace(run_name: str) -> Path:
        return home.path / "runs" / run_name

    worker = Worker(
        backing=backing,
        gatekeeper=gatekeeper,
        scheduling=scheduling(backing, backend, worker_settings, workspace),
        processing=Processing(backing, processor, importer, limits.reserve_bytes, slots=worker_settings.data_processes),
        rollouts=Rollouts(
            backing, serving, probe, patience=timedelta(seconds=worker_settings.rollout_seconds), since=clock.now()
        ),
        backend=backend,
        ray=ray,
        settings=worker_settings,
        api_url=url,
        retention=Retention(
            backing,
            LocalRunFolders(home.path / "runs"),
            kept=timedelta(hours=worker_settings.tidy_hours),
            replays=timedelta(hours=worker_settings.replay_hours),
        ),
        workspace=workspace,
    )
    wiring = Wiring(
        backing=backing,
        gatekeeper=gatekeeper,
        limits=limits,
        lease=timedelta(seconds=worker_settings.heartbeat_seconds),
        up_since=clock.now(),
        mode="embedded",
        serving=serving,
        ready=worker.stalled,
    )
    _first_start(home, wiring)
    return Embedded(home, wiring, worker, ray, serving, backend, database)


def _first_start(home: Home, wiring: Wiring) -> None:
    """Make what a new data folder lacks: the pool ``local`` and the project ``default`` with its quota, and the key."""
    backing, clock = wiring.backing, wiring.backing.clock
    owner = Caller(Principal(user="admin", key="first-start", admin=True))
    with backing.database.write() as work:
        if not work.pools.all() and not work.projects.all():
            project = Projects(backing, owner).add(work, "default", "Default", None)
            gpus = _gpus()
            capacity = len(gpus) or _CPU_SLOTS
            pool = Pool(
                id=backing.new_id("pool"),
                name="local",
                capacity=capacity,
                gpu_type=gpus[0] if gpus else "",
                created_at=clock.now(),
            )
            work.pools.add(pool)
            work.of(project.id).quotas.add(StoredQuota(project=project.id, pool="local", nominal=capacity))
    if not (home.path / "admin.key").exists():
        _, secret = Keys(backing, owner, wiring.gatekeeper.pepper).create("admin", name="embedded server", admin=True)
        home.private_file("admin.key", secret)


def _gpus() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs, as their driver tells."""
    found = []
    for facts in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = dict(line.split(":", 1) for line in facts.read_text().splitlines() if ":" in line)
        found.append(lines.get("Model", "GPU").strip())
    return found


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _serve(settings: ServerSettings) -> int:
    home = Home(settings.home.resolve())
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with processes.exclusive(home.path, name="server.lock"):
            set_up_logging()
            try:
                listener = _listen(settings.host, settings.port)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                    raise
                _say(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another with --port")
                return EXIT_PORT
            with listener:
                return _run(home, settings.host, listener)
    except ConflictError:
        known = home.path / "server.json"
        pid = json.loads(known.read_text()).get("pid") if known.exists() else "unknown"
        _say(f"{home.path} belongs to a running server (pid {pid}); stop that one, or choose another --home")
        return EXIT_LOCKED


def _say(words: str) -> None:
    print(f"windlass: {words}", file=sys.stderr)  # noqa: T201 - the words of a command, before any log


def _run(home: Home, host: str, listener: socket.socket) -> int:
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    embedded = build(home, url)
    config = uvicorn.Config(create_app(embedded.wiring), log_config=None, access_log=False, timeout_graceful_shutdown=5)
    server = _Server(config, lambda: home.publish(url))
    embedded.worker.start()
    try:
        server.run([listener])
    finally:
        # A second signal must not cut the clean-up short; kill -9 still can, and the next start picks up the pieces.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        home.withdraw()
        embedded.worker.stop()
        embedded.stop_children()
        embedded.database.close()
    return 0


class _Server(uvicorn.Server):
    """Says when it accepts requests, and swallows the signal that ended it: the exit code is ours."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as the wish to end, without raising them again afterwards."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def main() -> int:
    """Run the embedded server until it is told to stop."""
    parser = argparse.ArgumentParser(prog="windlass_api.embedded", description=__doc__)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8741)
    given = parser.parse_args()
    try:
        return _serve(ServerSettings(home=given.home, host=given.host, port=given.port))
    except (ValidationError, WindlassError) as error:
        _say(str(error))
        return EXIT_SETTINGS


if __name__ == "__main__":
    sys.exit(main())
