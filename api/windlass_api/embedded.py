"""Composition root of ``windlass up``: API and worker in one process, SQLite, a local folder, local back ends."""

import contextlib
import secrets
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from windlass.db.migrate import migrate
from windlass.db.session import SqlDatabase, sqlite_engine
from windlass.domain.projects import Pool, StoredQuota
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.orchestration.local import LocalPipelineBackend
from windlass.orchestration.model_import import EmbeddedModelImporter
from windlass.orchestration.ray_head import LocalRay
from windlass.orchestration.run_folders import LocalRunFolders
from windlass.services.access import Gatekeeper
from windlass.services.backing import Backing
from windlass.services.processing import Processing
from windlass.services.projects import Projects
from windlass.services.quotas import StoredTruth
from windlass.services.retention import Retention
from windlass.services.rollouts import Rollouts
from windlass.serving.local import LocalServing
from windlass.serving.probe import probe
from windlass.settings import LimitSettings, WorkerSettings
from windlass.storage.local import LocalObjectStore
from windlass_api import process
from windlass_api.dependencies import Wiring
from windlass_api.process import FIRST, Home, SystemClock, first_key
from windlass_api.worker import Worker, scheduling

_CPU_SLOTS = 2


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

    def start(self) -> None:
        """Begin the worker's loops."""
        self.worker.start()

    def stop(self) -> None:
        """End runs, serving and Ray: nothing is left running, no port is held. Jobs go on from checkpoints later."""
        with contextlib.ExitStack() as stack:  # whatever one of them meets, the others are stopped too
            stack.callback(self.database.close)
            stack.callback(self.ray.stop)
            stack.callback(self.serving.stop)
            stack.callback(self.worker.scheduling.stop_all)
            stack.callback(self.worker.stop)


def build(home: Home, url: str) -> Embedded:
    """Wire everything together over one data folder."""
    home.claim("embedded")
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
        quota_truth=StoredTruth(backing),
        serving=serving,
        ready=worker.loops.stalled,
    )
    _first_start(home, wiring)
    return Embedded(home, wiring, worker, ray, serving, backend, database)


def _first_start(home: Home, wiring: Wiring) -> None:
    """Make what a new data folder lacks: the pool ``local`` and the project ``default`` with its quota, and the key."""
    backing, clock = wiring.backing, wiring.backing.clock
    with backing.database.write() as work:
        if not work.pools.all() and not work.projects.all():
            project = Projects(backing, FIRST).add(work, "default", "Default", None)
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
    first_key(home, wiring, "embedded server")


def _gpus() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs, as their driver tells."""
    found = []
    for facts in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = dict(line.split(":", 1) for line in facts.read_text().splitlines() if ":" in line)
        found.append(lines.get("Model", "GPU").strip())
    return found


def main() -> int:
    """Run the embedded server until it is told to stop."""
    return process.main("windlass_api.embedded", __doc__, build)


if __name__ == "__main__":
    sys.exit(main())
