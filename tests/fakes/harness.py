"""A control plane in one process: real database, object store and routes; in-memory backends and a fake clock."""

import json
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from tests.factories.databases import new_engine
from tests.fakes.backends import (
    AlwaysUpRay,
    FakeClock,
    ImmediateProber,
    MemoryImporter,
    MemoryPipelines,
    MemoryServing,
)
from tests.fakes.cluster import MemoryResources, MemoryView, MemoryWarmTrainers

from windlass.audit_settings import AuditSettings
from windlass.db.session import SqlDatabase
from windlass.domain.artifacts import Manifest, sha256_file
from windlass.domain.autoscaling import ScalingDelays
from windlass.domain.datasets import DatasetVersion, Split, VersionState
from windlass.domain.models import BaseModelState, CatalogueModel
from windlass.domain.projects import PlatformRole, Pool, Principal, StoredQuota
from windlass.domain.specs import Task
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.orchestration.run_folders import LocalRunFolders
from windlass.ports import DataProcessor, IdentityProvider, MasterKeys, ObjectStore, UrlSigner
from windlass.runtime.context import RunLocations
from windlass.services.base import Caller
from windlass.services.cluster_sync import ClusterSync
from windlass.services.data_keys import ProjectKeys
from windlass.services.keys import Keys
from windlass.services.projects import Projects
from windlass.services.rollouts import Rollouts
from windlass.services.secrets import SecretHasher
from windlass.services.sign_in import SignInPolicy
from windlass.services.sync_lease import RowLease
from windlass.settings import LimitSettings, WorkerSettings
from windlass.storage.local import LocalObjectStore
from windlass_api.app import create_app
from windlass_api.composition import ApplicationSettings, ClusterPorts, Ports, ServingPorts, compose
from windlass_api.job_runner import JobRunner, LocalTraining, TrainingPorts
from windlass_api.outbox_dispatcher import OutboxDispatcher

ADMIN = Caller(Principal(user="admin", credential="key_test", platform_role=PlatformRole.ADMIN), "test")
_MAX_ROUNDS = 500


def run_until_idle(dispatcher: OutboxDispatcher) -> None:
    """Handle the intents that are due, and those that become due meanwhile."""
    dispatcher.run_once()
    for _ in range(_MAX_ROUNDS):
        busy = dispatcher.busy
        if not busy:
            return
        wait(busy)
        dispatcher.run_once()
    raise AssertionError("the dispatcher does not become idle")


@dataclass
class ControlPlaneHarness:
    """The control plane under test; ``client`` authenticates as an admin."""

    home: Path
    clock: FakeClock = field(default_factory=FakeClock)
    pipelines: MemoryPipelines = field(default_factory=MemoryPipelines)
    serving: MemoryServing = field(default_factory=MemoryServing)
    limits: LimitSettings = field(default_factory=lambda: LimitSettings(key_cache_seconds=0))
    prober: ImmediateProber = field(default_factory=ImmediateProber)
    connections: int = 64
    processor: DataProcessor | None = None
    """Parses datasets; real child processes by default."""
    importer: MemoryImporter = field(default_factory=MemoryImporter)
    object_store: ObjectStore | None = None
    """The object store; a local folder by default."""
    signer: UrlSigner | None = None
    masters: MasterKeys | None = None
    """The master keys; None: no project is encrypted."""
    identity: IdentityProvider | None = None
    sign_in: SignInPolicy = field(default_factory=SignInPolicy)
    cluster: MemoryView | None = None
    """The cluster that this control plane manages; without one it runs in embedded mode."""
    serves: bool = False
    """Whether a cluster serves endpoints."""
    trains: bool = False
    """Whether jobs can be submitted in a cluster."""
    audit: AuditSettings = field(default_factory=lambda: AuditSettings(denied_entries=100_000))
    artifact_files: dict[str, str] = field(default_factory=dict)
    """Texts of further files of artifacts, by name."""
    page_url: str = ""
    """URL of the page of a run, with a placeholder for its name; empty: there is none."""

    def _page_of(self, run_name: str) -> str:
        return self.page_url.format(run_name)

    def __post_init__(self) -> None:
        self.engine = new_engine(self.home, connections=self.connections, pool_timeout=0.5)
        self.database = SqlDatabase(self.engine, self.clock)
        self.store_folder = self.home / "store"
        self.store = self.object_store or LocalObjectStore(self.store_folder, min_free_bytes=1)
        self.data_keys = ProjectKeys(self.database, self.masters, self.clock) if self.masters is not None else None
        hasher = SecretHasher(b"only for tests")
        cluster_ports, training, serving = None, None, None
        if self.cluster:
            self.resources = MemoryResources(self.cluster)
            lease = self._sync_lease("worker-1")
            if self.serves:
                serving = ServingPorts(self.serving, self.prober, ScalingDelays())
            if self.trains:
                training = TrainingPorts(self.pipelines, "http://testserver", None)
            self.warm_trainers = MemoryWarmTrainers(self.clock)
            cluster_ports = ClusterPorts(
                self.cluster, lease, self.resources, self.resources, priority=int, warm_trainers=self.warm_trainers
            )
        else:
            local = LocalTraining(AlwaysUpRay(), lambda name: self.home / "runs" / name)
            training = TrainingPorts(self.pipelines, "http://testserver", local, self._page_of)
            serving = ServingPorts(self.serving, self.prober)
        ports = Ports(
            database=self.database,
            store=self.store,
            clock=self.clock,
            folders=LocalRunFolders(self.home / "runs"),
            processor=self.processor or EmbeddedDataProcessor(self.home / "data"),
            importer=self.importer,
            signer=self.signer,
            data_keys=self.data_keys,
            training=training,
            serving=serving,
            cluster=cluster_ports,
            identity=self.identity,
        )
        settings = ApplicationSettings(
            self.limits, WorkerSettings(), hasher, self.sign_in, "worker-1", audit=self.audit
        )
        self.application = compose(settings, ports)
        self.app_context, self.worker = self.application.app_context, self.application.worker
        self.deps, self.access_control = self.app_context.deps, self.app_context.access_control
        self.processing, self.retention = self.worker.processing, self.worker.retention
        if self.worker.cluster_sync is not None:
            self.cluster_sync = self.worker.cluster_sync
            self.cluster_sync.monotonic = self.clock.monotonic
        else:
            self.restart_rollouts()
        self.app = create_app(self.app_context)
        _, secret = Keys(self.deps, ADMIN).create("admin", platform_role=PlatformRole.ADMIN)
        self.client = self.client_for_key(secret)

    def delete_expired(self) -> None:
        """Delete all that the retention deletes now: a sweep ends after a second, whatever is left."""
        for _ in range(_MAX_ROUNDS):
            if not self.retention.sweep():
                return
        raise AssertionError("the retention does not end")

    @property
    def jobs(self) -> JobRunner:
        """The part of the worker that runs jobs."""
        assert self.worker.jobs
        return self.worker.jobs

    def _sync_lease(self, holder: str) -> RowLease:
        return RowLease(self.database, holder, timedelta(seconds=15), self.clock.monotonic)

    def add_cluster_sync(self, holder: str) -> ClusterSync:
        """Return the cluster sync of another worker."""
        assert self.cluster
        lease = self._sync_lease(holder)
        return ClusterSync(self.worker.deps, self.cluster, self.resources, lease, monotonic=self.clock.monotonic)

    def client_for_key(self, secret: str) -> TestClient:
        """Return a client that authenticates with this API key."""
        return TestClient(self.app, headers={"Authorization": f"Bearer {secret}"}, raise_server_exceptions=False)

    def client_for_user(self, user: str, **key: Any) -> TestClient:
        """Return a client of a user without global permissions."""
        return self.client_for_key(Keys(self.deps, ADMIN).create(user, **key)[1])

    def create_project(
        self, name: str, *, gpus: int = 1, cohort: str | None = None, pool: str = "local", priority_ceiling: int = 0
    ) -> str:
        """Create a project with a quota, create or grow its pool, and return the project's id."""
        project = Projects(self.deps, ADMIN).create(name, "", cohort, priority_ceiling)
        with self.database.write() as uow:
            existing = uow.pools.find({"name": pool})
            if existing is None:
                uow.pools.add(Pool(id=self.deps.new_id("pool"), name=pool, capacity=gpus, created_at=self.clock.now()))
            else:
                uow.pools.save(existing.model_copy(update={"capacity": existing.capacity + gpus}))
            uow.project(project.id).quotas.add(StoredQuota(project=project.id, pool=pool, nominal=gpus))
        return project.id

    def create_base_model(self, name: str = "tiny", task: Task = Task.TEXT_CLASSIFICATION) -> None:
        """Add a ready base model to the catalogue."""
        with self.database.write() as uow:
            key = self.deps.new_id("bm")
            uow.base_models.add(
                CatalogueModel(
                    id=key,
                    name=name,
                    tasks=(task,),
                    max_positions=512,
                    path="/nowhere",
                    prefix=f"base-models/{key}",
                    state=BaseModelState.READY,
                    created_at=self.clock.now(),
                )
            )

    def create_dataset(
        self, project: str, name: str = "reviews", task: Task = Task.TEXT_CLASSIFICATION, count: int = 4
    ) -> None:
        """Store a processed, ready dataset version with two splits of ``count`` rows."""
        client = self.client
        base = f"/v1/projects/{project}/datasets"
        assert client.post(base, json={"name": name, "task": task.value}).status_code == 201
        with self.database.write() as uow:
            owner = uow.projects.get({"name": project})
            repos = uow.project(owner.id)
            dataset = repos.datasets.get({"name": name})
            key = self.deps.new_id("dsv")
            prefix = f"projects/{owner.id}/datasets/{key}"
            for split in (Split.TRAIN, Split.VALIDATION):
                target = self.store_folder / f"{prefix}/{split}.jsonl"
                target.parent.mkdir(parents=True, exist_ok=True)
                rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(count)]
                target.write_text("".join(json.dumps(row) + "\n" for row in rows))
            repos.datasets.save(dataset.model_copy(update={"last_number": 1}))
            repos.dataset_versions.add(
                DatasetVersion(
                    id=key,
                    project=owner.id,
                    dataset=dataset.id,
                    number=1,
                    state=VersionState.READY,
                    task=task,
                    origin="upload",
                    prefix=prefix,
                    digest="0" * 64,
                    rows={Split.TRAIN: count, Split.VALIDATION: count},
                    labels=("a", "b"),
                    created_by="admin",
                    created_at=self.clock.now(),
                )
            )

    def submit(self, project: str, *, key: str, client: TestClient | None = None, **spec: Any) -> dict[str, Any]:
        """Submit a job and return the response body."""
        body = {
            "task": "text-classification",
            "base_model": "tiny",
            "dataset": "reviews",
            "model": "classifier",
            **spec,
        }
        response = (client or self.client).post(
            f"/v1/projects/{project}/jobs", json={"spec": body}, headers={"Idempotency-Key": key}
        )
        assert response.status_code == 202, response.text
        job: dict[str, Any] = response.json()
        return job

    def dispatch_outbox(self) -> None:
        """Run the outbox entries that are due."""
        if self.jobs.ray_starter is not None:
            self.jobs.ray_starter.step()
        run_until_idle(self.worker.dispatcher)

    def run_worker_once(self, times: int = 1) -> None:
        """Run the worker's due work, several times."""
        for _ in range(times):
            self.dispatch_outbox()
            try:
                self.jobs.poll()
            finally:
                self.jobs.admit()
            self.dispatch_outbox()

    def write_artifact(self, prefix: str) -> Manifest:
        """Write a small artifact, whose report has another format, to the store and return its manifest."""
        folder = self.store_folder / prefix
        folder.mkdir(parents=True, exist_ok=True)
        files = {"report.html": "<html></html>", "report.json": '{"format": 2}', **self.artifact_files}
        for name, text in files.items():
            (folder / name).write_text(text)
        manifest = Manifest(files={name: sha256_file(folder / name) for name in files})
        (folder / "manifest.json").write_text(manifest.model_dump_json())
        return manifest

    def key(self, uri: str) -> str:
        """Return the key in the object store that has this URI."""
        return uri.removeprefix(self.store_folder.as_uri() + "/")

    def simulated_run(self, job: dict[str, Any]) -> "SimulatedRun":
        """Return the newest run of a job."""
        with self.database.read() as uow:
            run = uow.all_projects().runs.all({"job": job["id"]})[-1]
        return SimulatedRun(self, run.id, run.name, self.client_for_key(self.access_control.run_token(run.id)))

    def restart_rollouts(self) -> None:
        """Replace the rollouts with new ones, as a server restart does."""
        self.rollouts = Rollouts(self.worker.deps, self.serving, self.prober, timedelta(seconds=300))
        self.rollouts.mark_unobserved()

    def close(self) -> None:
        """Stop the worker and close the database."""
        self.worker.stop()
        self.database.close()


@dataclass
class SimulatedRun:
    """The run processes, as the control plane sees them: a client of the internal API."""

    harness: ControlPlaneHarness
    run: str
    name: str
    client: TestClient
    sequence: int = 0

    @property
    def locations(self) -> RunLocations:
        """The URIs that the run was submitted with."""
        return self.harness.pipelines.contexts[self.name].locations

    def artifact(self, attempt: int) -> str:
        """The key of an attempt's artifact."""
        return self.harness.key(self.locations.artifact(attempt))

    def checkpoint(self, attempt: int, step: int) -> str:
        """The key of an attempt's checkpoint."""
        return self.harness.key(self.locations.checkpoint(attempt, step))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the internal API."""
        return self.client.post(f"/internal/v1/runs/{self.run}/{path}", json=body or {})

    def acquire_attempt(self, trainer: str = "t1") -> Any:
        """Acquire an attempt and its fence."""
        return self.post("attempts:acquire", {"trainer": trainer})

    def report(self, attempt: int, *items: dict[str, Any], source: str = "rank0") -> Any:
        """Send the next batch."""
        self.sequence += 1
        stamped = [{"time": self.harness.clock.now().isoformat(), **item} for item in items]
        body = {"source": source, "sequence": self.sequence, "items": stamped}
        return self.post(f"attempts/{attempt}/reports", body)

    def get(self) -> Any:
        """Get the status of the run."""
        return self.client.get(f"/internal/v1/runs/{self.run}")

    def finish(
        self, attempt: int, evaluation: dict[str, Any] | None = None, warnings: Sequence[dict[str, Any]] = ()
    ) -> Any:
        """Report a successful result and register it."""
        assert self.report_success(attempt, evaluation, warnings).status_code == 200
        return self.post("register")

    def report_success(
        self, attempt: int, evaluation: dict[str, Any] | None = None, warnings: Sequence[dict[str, Any]] = ()
    ) -> Any:
        """Report a successful result."""
        manifest = self.harness.write_artifact(self.artifact(attempt))
        result = {
            "type": "result",
            "outcome": "succeeded",
            "manifest": manifest.model_dump(),
            "evaluation": evaluation or {"accuracy": 0.9},
            "warnings": list(warnings),
            "trained_seconds": 3.0,
        }
        return self.report(attempt, result)
