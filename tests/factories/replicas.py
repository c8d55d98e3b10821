"""Replicas of the control plane as processes: they share PostgreSQL, an S3 bucket and a fake Kubernetes API server."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from tests.architecture.tree import ROOT
from tests.e2e.servers import free_port
from tests.factories.databases import using
from tests.factories.postgres_server import API_ROLE
from tests.factories.s3_server import S3Server, signer
from tests.fakes.harness import ControlPlaneHarness
from tests.fakes.kube_api import KubeApi, KubeApiServer, serve_kube_api

from windlass.kube.cluster_view import REQUIRED_KINDS
from windlass.kube.kinds import (
    BATCH_JOB,
    CLUSTER_QUEUE,
    COHORT,
    ENDPOINT,
    NODE,
    POD,
    POOL,
    PROJECT,
    RAY_JOB,
    RAY_SERVICE,
    SECRET,
)
from windlass.kube.resources import GPUPool, Project
from windlass.storage.s3 import S3ObjectStore
from windlass_operators.render import queues

PEPPER, ADMIN_KEY = "p" * 32, "wlk_" + "a" * 26 + "_" + "s" * 40
_KINDS = (*REQUIRED_KINDS, BATCH_JOB, ENDPOINT, NODE, POD, RAY_JOB, RAY_SERVICE, SECRET)
_CLUSTER_SCOPED = (POOL, PROJECT, CLUSTER_QUEUE, COHORT, NODE)
_SECONDS = 180.0


def wait_until(condition: Callable[[], Any], description: str, seconds: float = _SECONDS) -> Any:
    """Return the first true result of a condition."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {description}"
        time.sleep(0.05)
    return result


@dataclass
class ControlPlaneReplica:
    """One process."""

    role: str
    log: Path
    port: int
    internal_port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.internal_port}"

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def ready(self) -> bool:
        """Whether it answers that it is ready."""
        assert self.alive, self.log.read_text()[-3000:]
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def events(self, message: str) -> list[dict[str, Any]]:
        """Return the log records with this message."""
        lines = self.log.read_text().splitlines()
        return [record for line in lines if line.startswith("{") and (record := json.loads(line))["event"] == message]

    def client(self) -> httpx2.Client:
        """Return a client of an admin."""
        return httpx2.Client(base_url=self.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=60)


@dataclass
class ControlPlaneReplicas:
    """The processes, and what they share. ``harness`` reads and prepares their database."""

    folder: Path
    kube: KubeApiServer
    harness: ControlPlaneHarness
    environment: dict[str, str]
    all: list[ControlPlaneReplica] = field(default_factory=list)

    def start(self, role: str) -> ControlPlaneReplica:
        """Start a process."""
        log = self.folder / f"{role}-{len(self.all)}.log"
        ports = free_port(), free_port()
        argv = [sys.executable, "-W", "error", "-m", "windlass_api.cluster", "--role", role]
        argv += ["--port", str(ports[0]), "--internal-port", str(ports[1])]
        with log.open("ab") as output:
            process = subprocess.Popen(
                argv, cwd=ROOT, env={**os.environ, **self.environment}, stdout=output, stderr=output
            )
        self.all.append(ControlPlaneReplica(role, log, *ports, process))
        return self.all[-1]

    def of_role(self, role: str) -> list[ControlPlaneReplica]:
        """Return the processes of a role that run."""
        return [replica for replica in self.all if replica.role == role and replica.alive]

    def leader(self) -> ControlPlaneReplica:
        """Return the worker that holds the lease."""
        return wait_until(self._find_leader, "a worker is the leader")  # type: ignore[no-any-return]  # as the condition

    def _find_leader(self) -> ControlPlaneReplica | None:
        with self.harness.database.read() as uow:
            status = uow.cluster_sync_status.find({})
        for worker in self.of_role("worker"):
            elected = [record["holder"] for record in worker.events("became the leader of the cluster sync")]
            if status is not None and status.holder in elected:
                return worker
        return None

    def send(self, path: str, token: str, body: dict[str, Any]) -> list[httpx2.Response]:
        """Send a request of a run to every replica of the API at the same time; return the answers."""

        def post(replica: ControlPlaneReplica) -> httpx2.Response | None:
            headers = {"Authorization": f"Bearer {token}"}
            try:
                return httpx2.post(f"{replica.internal_url}{path}", json=body, headers=headers, timeout=60)
            except httpx2.TransportError:
                return None  # it was killed

        replicas = self.of_role("api")
        with ThreadPoolExecutor(len(replicas)) as executor:
            return [answer for answer in executor.map(post, replicas) if answer is not None]

    def close(self) -> None:
        """Stop the processes that run."""
        running = [replica for replica in self.all if replica.alive]
        for replica in running:
            replica.process.terminate()
        for replica in running:
            replica.process.wait(60)


def add_project(api: KubeApi, name: str, pool: str, gpus: int) -> None:
    """Create a pool, and a project with a quota of it and its queues."""
    labels = {"nodeLabels": {"windlass.dev/pool": pool}}
    resource = api.create(_resource("GPUPool", pool, labels) | {"status": {"capacity": gpus, "allocatable": gpus}})
    project = api.create(_resource("Project", name, {"quotas": [{"pool": pool, "nominal": gpus}]}))
    parsed = GPUPool.model_validate(resource, extra="ignore"), Project.model_validate(project, extra="ignore")
    for queue in queues.objects(parsed[1], {pool: parsed[0]}):
        api.create(queue)


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": POOL.api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _kubeconfig(folder: Path, url: str) -> Path:
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    parts = {"clusters": [{"name": "c", "cluster": {"server": url}}], "contexts": [context]}
    content = {"apiVersion": "v1", "kind": "Config", "users": [{"name": "u", "user": {}}], "current-context": "c"}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(content | parts))
    return path


@contextmanager
def replicas(folder: Path, s3_server: S3Server) -> Iterator[ControlPlaneReplicas]:
    """Prepare what the processes share; stop all of them at the end."""
    bucket = s3_server.new_bucket()
    s3 = s3_server.settings(bucket.name)
    store = S3ObjectStore(bucket, s3.part_bytes)
    with using("postgresql"), serve_kube_api(_KINDS, _CLUSTER_SCOPED) as kube:
        harness = ControlPlaneHarness(folder, object_store=store, signer=signer(store), connections=5)
        environment = {
            "WINDLASS_CLUSTER_KUBECONFIG": str(_kubeconfig(folder, kube.url)),
            "WINDLASS_DATABASE_URL": harness.engine.url.render_as_string(hide_password=False),
            "WINDLASS_DATABASE_API_URL": harness.engine.url.set(username=API_ROLE).render_as_string(
                hide_password=False
            ),
            "WINDLASS_SECRETS_PEPPER": PEPPER,
            "WINDLASS_SECRETS_ADMIN_KEY": ADMIN_KEY,
            "WINDLASS_S3_ENDPOINT": s3.endpoint,
            "WINDLASS_S3_BUCKET": s3.bucket,
            "WINDLASS_S3_ACCESS_KEY_ID": s3.access_key_id,
            "WINDLASS_S3_SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
            "WINDLASS_CLUSTER_PIPELINES_IMAGE": "windlass/pipelines:test",
            "WINDLASS_CLUSTER_RAY_IMAGE": "windlass/ray:test",
            "WINDLASS_CLUSTER_LEADER_LEASE_SECONDS": "5",
            "WINDLASS_WORKER_OUTBOX_LEASE_SECONDS": "5",
            "WINDLASS_WORKER_ATTEMPT_HEARTBEAT_TIMEOUT_SECONDS": "120",
        }
        started = ControlPlaneReplicas(folder, kube, harness, environment)
        try:
            yield started
        finally:
            started.close()
            harness.close()
