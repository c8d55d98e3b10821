"""A whole control plane in one process: real SQLite, real store, real routes; back ends in memory, a clock by hand."""

import json
import shutil
import tempfile
from concurrent.futures import wait
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from tests.fakes.backends import FixedRay, HandClock, MemoryPipelines, MemoryServing
from tests.fakes.cluster import MemoryResources, MemoryView

from windlass.db.migrate import migrate
from windlass.db.session import SqlDatabase, sqlite_engine
from windlass.domain.artifacts import Manifest, sha256_file
from windlass.domain.datasets import DatasetVersion, Split, VersionState
from windlass.domain.models import BaseModelState, CatalogueModel
from windlass.domain.projects import Pool, Principal, StoredQuota
from windlass.domain.specs import Task
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.orchestration.model_import import EmbeddedModelImporter
from windlass.orchestration.run_folders import LocalRunFolders
from windlass.ports import DataProcessor
from windlass.services.access import Gatekeeper, Keys
from windlass.services.admission import Admission, mirrored_snapshot
from windlass.services.backing import Backing, Caller
from windlass.services.mirroring import Mirroring
from windlass.services.processing import Processing
from windlass.services.projects import Projects
from windlass.services.quotas import QuotaTruth, ResourceTruth, StoredTruth
from windlass.services.retention import Retention
from windlass.services.rollouts import Rollouts
from windlass.settings import LimitSettings, WorkerSettings
from windlass.storage.local import LocalObjectStore
from windlass_api.app import create_app
from windlass_api.dependencies import Wiring
from windlass_api.worker import Worker, scheduling

PEPPER = b"only for tests"
ADMIN = Caller(Principal(user="admin", key="key_test", admin=True), "test")


@cache
def _migrated() -> Path:
    """Return a database that was migrated once in this process; a test starts from a copy."""
    template = Path(tempfile.mkdtemp(prefix="windlass-test-")) / "windlass.db"
    engine = sqlite_engine(template)
    migrate(engine)
    engine.dispose()  # the last connection to close carries the write-ahead log over into the file
    return template


@dataclass
class House:
    """The control plane under test; ``client`` speaks as an admin."""

    home: Path
    clock: HandClock = field(default_factory=HandClock)
    pipelines: MemoryPipelines = field(default_factory=MemoryPipelines)
    serving: MemoryServing = field(default_factory=MemoryServing)
    limits: LimitSettings = field(default_factory=lambda: LimitSettings(key_cache_seconds=0))
    complaint: str = ""
    connections: int = 64
    processor: DataProcessor | None = None
    """What parses datasets; real child processes by default."""
    cluster: MemoryView | None = None
    """The cluster that this control plane works for; without it, it is embedded."""

    def __post_init__(self) -> None:
        shutil.copy(_migrated(), self.home / "windlass.db")
        self.engine = sqlite_engine(self.home / "windlass.db", connections=self.connections, patience=0.5)
        self.database = SqlDatabase(self.engine, self.clock)
        self.store = LocalObjectStore(self.home / "store")
        admission = Admission(mirrored_snapshot) if self.cluster else Admission()
        self.backing = Backing(self.database, self.store, self.clock, admission=admission)
        truth: QuotaTruth = StoredTruth(self.backing)
        if self.cluster:
            self.resources = MemoryResources(self.cluster)
            self.mirroring = self.another_mirror("worker-1")
            truth = ResourceTruth(self.resources)
        self.gatekeeper = Gatekeeper(self.database, self.clock, PEPPER)
        settings = WorkerSettings()
        self.scheduling = scheduling(self.backing, self.pipelines, settings, lambda name: self.home / "runs" / name)
        self.processing = Processing(
            self.backing,
            self.processor or EmbeddedDataProcessor(self.home / "data"),
            EmbeddedModelImporter(self.home / "imports", "/usr/bin/false"),
        )
        self.retention = Retention(
            self.backing,
            LocalRunFolders(self.home / "runs"),
            kept=timedelta(hours=settings.tidy_hours),
            replays=timedelta(hours=settings.replay_hours),
        )
        self.restart_rollouts()
        self.worker = Worker(
            backing=self.backing,
            gatekeeper=self.gatekeeper,
            scheduling=self.scheduling,
            processing=self.processing,
            rollouts=self.rollouts,
            retention=self.retention,
            backend=self.pipelines,
            ray=FixedRay(),
            settings=settings,
            api_url="http://testserver",
            workspace=lambda name: self.home / "runs" / name,
        )
        self.wiring = Wiring(
            backing=self.backing,
            gatekeeper=self.gatekeeper,
            limits=self.limits,
            lease=timedelta(seconds=30),
            up_since=self.clock.now(),
            mode="cluster" if self.cluster else "embedded",
            quota_truth=truth,
            serving=None if self.cluster else self.serving,
        )
        self.app = create_app(self.wiring)
        _, secret = Keys(self.backing, ADMIN, PEPPER).create("admin", admin=True)
        self.client = self.client_with(secret)

    def another_mirror(self, holder: str) -> Mirroring:
        """Return the mirror of one more worker, whose monotonic clock is the hand clock."""
        assert self.cluster
        return Mirroring(
            self.backing,
            self.cluster,
            self.resources,
            holder,
            timedelta(seconds=15),
            monotonic=lambda: self.clock.now().timestamp(),
        )

    def client_with(self, secret: str) -> TestClient:
        """Return a client that carries this key."""
        return TestClient(self.app, headers={"Authorization": f"Bearer {secret}"}, raise_server_exceptions=False)

    def client_of(self, user: str, **key: Any) -> TestClient:
        """Return a client of a user without platform rights."""
        return self.client_with(Keys(self.backing, ADMIN, PEPPER).create(user, **key)[1])

    def project(self, name: str, *, gpus: int = 1, cohort: str | None = None, pool: str = "local") -> str:
        """Make a project with a quota; the pool is made with it, or grows by it. Returns the project's uid."""
        made = Projects(self.backing, ADMIN).create(name, "", cohort)
        with self.database.write() as work:
            known = work.pools.find(name=pool)
            if known is None:
                work.pools.add(
                    Pool(id=self.backing.new_id("pool"), name=pool, capacity=gpus, created_at=self.clock.now())
                )
            else:
                work.pools.save(known.model_copy(update={"capacity": known.capacity + gpus}))
            work.of(made.id).quotas.add(StoredQuota(project=made.id, pool=pool, nominal=gpus))
        return made.id

    def base_model(self, name: str = "tiny", task: Task = Task.TEXT_CLASSIFICATION) -> None:
        """Enter a base model into the catalogue, ready."""
        with self.database.write() as work:
            key = self.backing.new_id("bm")
            work.base_models.add(
                CatalogueModel(
                    id=key,
                    name=name,
                    tasks=(task,),
                    path="/nowhere",
                    prefix=f"base-models/{key}",
                    state=BaseModelState.READY,
                    created_at=self.clock.now(),
                )
            )

    def dataset(self, project: str, name: str = "reviews") -> None:
        """Store a ready dataset version with two splits, as processing leaves it."""
        client = self.client
        base = f"/v1/projects/{project}/datasets"
        assert client.post(base, json={"name": name, "task": "text-classification"}).status_code == 201
        with self.database.write() as work:
            owner = work.projects.get(name=project)
            inside = work.of(owner.id)
            dataset = inside.datasets.get(name=name)
            key = self.backing.new_id("dsv")
            prefix = f"projects/{owner.id}/datasets/{key}"
            for split in (Split.TRAIN, Split.VALIDATION):
                target = self.store.local_path(f"{prefix}/{split}.jsonl")
                target.parent.mkdir(parents=True, exist_ok=True)
                rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(4)]
                target.write_text("".join(json.dumps(row) + "\n" for row in rows))
            inside.datasets.save(dataset.model_copy(update={"last_number": 1}))
            inside.dataset_versions.add(
                DatasetVersion(
                    id=key,
                    project=owner.id,
                    dataset=dataset.id,
                    number=1,
                    state=VersionState.READY,
                    task=Task.TEXT_CLASSIFICATION,
                    origin="upload",
                    prefix=prefix,
                    digest="0" * 64,
                    rows={Split.TRAIN: 4, Split.VALIDATION: 4},
                    labels=("a", "b"),
                    created_by="admin",
                    created_at=self.clock.now(),
                )
            )

    def submit(self, project: str, *, key: str, client: TestClient | None = None, **spec: Any) -> dict[str, Any]:
        """Submit a job and return the reply's body."""
        body = {
            "task": "text-classification",
            "base_model": "tiny",
            "dataset": "reviews",
            "model": "classifier",
            **spec,
        }
        reply = (client or self.client).post(
            f"/v1/projects/{project}/jobs", json={"spec": body}, headers={"Idempotency-Key": key}
        )
        assert reply.status_code == 202, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def intents(self) -> None:
        """Let the worker carry out the intents that are due now."""
        self.worker.intents.turn()
        wait(self.worker.intents.busy)

    def turn(self, times: int = 1) -> None:
        """Let the worker do everything that is due, several times."""
        for _ in range(times):
            self.intents()
            self.worker.runs()
            self.intents()

    def artifact(self, prefix: str) -> Manifest:
        """Put a small artifact into the store and return its manifest."""
        target = self.store.local_path(f"{prefix}/report.html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("<html></html>")
        manifest = Manifest(files={"report.html": sha256_file(target)})
        (target.parent / "manifest.json").write_text(manifest.model_dump_json())
        return manifest

    def run_of(self, job: dict[str, Any]) -> "RunClient":
        """Return a client that speaks for the job's newest run."""
        with self.database.read() as work:
            run = work.everywhere().runs.all(job=job["id"])[-1]
        return RunClient(self, run.id, run.name, self.client_with(self.gatekeeper.run_token(run.id)))

    def restart_rollouts(self) -> None:
        """Look after endpoints as a server does that starts now."""
        self.rollouts = Rollouts(
            self.backing, self.serving, lambda _, __: self.complaint, timedelta(seconds=300), self.clock.now()
        )

    def close(self) -> None:
        """Let the worker's hands go, and release the database."""
        self.worker.stop()
        self.database.close()


@dataclass
class RunClient:
    """A run's processes, as far as the control plane can tell."""

    house: House
    run: str
    name: str
    client: TestClient
    sequence: int = 0

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the internal API."""
        return self.client.post(f"/internal/v1/runs/{self.run}/{path}", json=body or {})

    def claim(self, trainer: str = "t1") -> Any:
        """Ask for the fence."""
        return self.post("attempts:claim", {"trainer": trainer})

    def report(self, attempt: int, *items: dict[str, Any], source: str = "rank0") -> Any:
        """Send the next batch."""
        self.sequence += 1
        stamped = [{"time": self.house.clock.now().isoformat(), **item} for item in items]
        body = {"source": source, "sequence": self.sequence, "items": stamped}
        return self.post(f"attempts/{attempt}/reports", body)

    def finish(self, attempt: int, evaluation: dict[str, Any] | None = None) -> Any:
        """Report a success and register it."""
        context = self.house.pipelines.contexts[self.name]
        prefix = f"{context.artifact_prefix}/{attempt}"
        manifest = self.house.artifact(prefix)
        result = {
            "type": "result",
            "outcome": "succeeded",
            "artifact_prefix": prefix,
            "manifest": manifest.model_dump(),
            "evaluation": evaluation or {"accuracy": 0.9},
            "trained_seconds": 3.0,
        }
        assert self.report(attempt, result).status_code == 200
        return self.post("register")
