"""Composition root of ``windlass up --cluster``: the control plane of a cluster whose resources own pools and projects.

API and worker in one process, SQLite and a local folder. It keeps quotas, data and predictions; nothing trains or
serves through it.
"""

import contextlib
import secrets
import socket
import sys
from dataclasses import dataclass, field
from datetime import timedelta

from windlass.db.migrate import migrate
from windlass.db.session import SqlDatabase, sqlite_engine
from windlass.domain.errors import InvalidError
from windlass.kube.changing import AppliedProjects
from windlass.kube.client import Client, load_configuration
from windlass.kube.errors import ForbiddenError
from windlass.kube.priorities import value_of
from windlass.kube.view import WatchedCluster
from windlass.kube.watching import Pace
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.orchestration.model_import import EmbeddedModelImporter
from windlass.orchestration.run_folders import LocalRunFolders
from windlass.services.access import Gatekeeper
from windlass.services.admission import Admission, mirrored_snapshot
from windlass.services.backing import Backing
from windlass.services.mirroring import Mirroring
from windlass.services.processing import Processing
from windlass.services.quotas import ResourceTruth
from windlass.services.retention import Retention
from windlass.settings import ClusterSettings, LimitSettings, WorkerSettings
from windlass.storage.local import LocalObjectStore
from windlass_api import process
from windlass_api.dependencies import Wiring
from windlass_api.intents import Intents
from windlass_api.loops import Loops
from windlass_api.metrics import MIRROR_AGE
from windlass_api.process import Home, SystemClock, first_key

_PATIENCE = 5.0
"""Seconds that a request waits for the API server to try a change."""


@dataclass
class ClusterWorker:
    """The loops of one control plane. Everything they do can be done again."""

    backing: Backing
    processing: Processing
    retention: Retention
    mirroring: Mirroring
    settings: WorkerSettings
    intents: Intents = field(init=False)
    loops: Loops = field(init=False)

    def __post_init__(self) -> None:
        """Put the loops together."""
        self.intents = Intents(self.backing, self.settings.lease, self.processing.carry_out, after=self._nudge)
        self.loops = Loops(
            {
                "intents": self.intents.turn,
                "bytes": self.processing.watch,
                "retention": self.retention.step,
                "mirror": self._mirror,
            },
            self.settings.tick_seconds,
        )

    def _nudge(self) -> None:
        self.loops.nudge()

    def _mirror(self) -> bool:
        try:
            return self.mirroring.step()
        finally:
            MIRROR_AGE.set(self.mirroring.age)


@dataclass
class ClusterServer:
    """The parts of one control plane."""

    wiring: Wiring
    view: WatchedCluster
    worker: ClusterWorker
    database: SqlDatabase

    def start(self) -> None:
        """Begin to watch the cluster, and the loops."""
        self.view.start()
        self.worker.loops.start()

    def stop(self) -> None:
        """End both, and let another worker mirror at once."""
        with contextlib.ExitStack() as stack:  # whatever one of them meets, the others are stopped too
            stack.callback(self.database.close)
            stack.callback(self.worker.mirroring.release)
            stack.callback(self.view.stop)
            stack.callback(self.worker.intents.close)
            stack.callback(self.worker.loops.stop)


def build(home: Home, url: str) -> ClusterServer:
    """Wire everything together over one data folder and the cluster that the settings or KUBECONFIG name.

    Raises:
        InvalidError: nothing says where the cluster is, or the folder belongs to an embedded server.
    """
    del url  # nobody is told where to report to
    home.claim("cluster")
    settings, limits, clock = ClusterSettings(), LimitSettings(), SystemClock()
    try:
        configuration = load_configuration(settings.kubeconfig)
    except ForbiddenError as error:
        raise InvalidError(error.message) from error
    engine = sqlite_engine(home.path / "windlass.db")
    migrate(engine)
    database = SqlDatabase(engine, clock)
    store = LocalObjectStore(home.path / "store", limits.reserve_bytes)
    backing = Backing(database, store, clock, admission=Admission(mirrored_snapshot, value_of))
    pace = Pace(resync=settings.resync_seconds, silence=settings.silence_seconds)
    view = WatchedCluster(Client(configuration), clock, pace, limit=2 * settings.silence_seconds)
    mirroring = Mirroring(
        backing,
        view,
        AppliedProjects(Client(configuration, guard=lambda: mirroring.guard())),  # noqa: PLW0108 - it is made just now
        # one folder has one server at a time: whoever starts over it again need not wait for its own lease
        holder=f"{socket.gethostname()}:{home.private_file('holder', secrets.token_hex(8))}",
        lease=timedelta(seconds=settings.lease_seconds),
    )
    worker = _worker(home, backing, mirroring, limits)
    wiring = Wiring(
        backing=backing,
        gatekeeper=Gatekeeper(database, clock, home.private_file("pepper", secrets.token_hex(32)).encode()),
        limits=limits,
        lease=timedelta(seconds=worker.settings.heartbeat_seconds),
        up_since=clock.now(),
        mode="cluster",
        serving=None,
        quota_truth=ResourceTruth(AppliedProjects(Client(configuration, patience=_PATIENCE))),
        ready=worker.loops.stalled,
    )
    first_key(home, wiring, "control plane")
    return ClusterServer(wiring, view, worker, database)


def _worker(home: Home, backing: Backing, mirroring: Mirroring, limits: LimitSettings) -> ClusterWorker:
    settings = WorkerSettings()
    processing = Processing(
        backing,
        EmbeddedDataProcessor(home.path / "data", sys.executable),
        EmbeddedModelImporter(home.path / "imports", sys.executable),
        limits.reserve_bytes,
        slots=settings.data_processes,
    )
    retention = Retention(
        backing,
        LocalRunFolders(home.path / "runs"),
        kept=timedelta(hours=settings.tidy_hours),
        replays=timedelta(hours=settings.replay_hours),
    )
    return ClusterWorker(backing, processing, retention, mirroring, settings)


def main() -> int:
    """Run the control plane until it is told to stop."""
    return process.main("windlass_api.cluster", __doc__, build)


if __name__ == "__main__":
    sys.exit(main())
