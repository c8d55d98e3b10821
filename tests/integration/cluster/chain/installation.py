"""A release of the charts on the test cluster, which the tests of this folder share."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.cluster_demo.installation import API_PORT, SYSTEM_NAMESPACE, admin_key, install_charts, start_cluster
from tests.factories.small_jobs import SPEC, ensure_test_data
from tests.factories.tiny_models import tiny_encoder
from tests.integration.cluster.installed import admin_client
from tests.integration.cluster.job_history import RayJobLifetimes
from tests.integration.cluster.waiting import eventually
from tests.testcluster import backing_services
from tests.testcluster.cluster_api import ClusterApi, Json, condition, kubectl
from tests.testcluster.layout import LocalCluster
from tests.testcluster.node import POOL
from tests.testcluster.operators import KUEUE_NAMESPACE, RAY_NAMESPACE
from tests.testcluster.service_relay import ServiceRelay, relayed_service

from windlass.domain.endpoints import EndpointState
from windlass.domain.errors import WindlassError
from windlass.domain.jobs import JobState
from windlass.sdk import Client
from windlass.wire.jobs import JobDetailOut, JobOut

PROJECT = "chain"
NAMESPACE = f"wl-{PROJECT}"
HELD_SECONDS = 300
KILLED = ("--grace-period=0", "--force", "--wait=false")
"""Options with which ``kubectl delete pod`` kills a pod as a lost node does, and returns at once."""
SETTINGS = {
    "WINDLASS_CLUSTER_DOWNSCALE_DELAY_SECONDS": "15",
    "WINDLASS_CLUSTER_SCALE_TO_ZERO_DELAY_SECONDS": "15",
    "WINDLASS_LIMIT_HELD_SECONDS": str(HELD_SECONDS),
}
"""The tests do not wait for the delays of the autoscaling, and a pod starts slowly beside other work."""


@dataclass(frozen=True)
class Service:
    """A Deployment that Windlass consists of or depends on."""

    namespace: str
    deployment: str
    selector: str

    def ready(self, api: ClusterApi) -> bool:
        """Whether it has a pod, and each one is ready and is not being deleted."""
        pods = api.items(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={self.selector.replace('=', '%3D')}")
        return bool(pods) and all(
            condition(pod, "Ready") and "deletionTimestamp" not in pod["metadata"] for pod in pods
        )


def _of_windlass(component: str) -> Service:
    return Service(SYSTEM_NAMESPACE, f"windlass-{component}", f"app.kubernetes.io/component={component}")


API, WORKER, OPERATORS = (_of_windlass(component) for component in ("api", "worker", "operators"))
POSTGRESQL, S3 = (Service(backing_services.NAMESPACE, name, f"app={name}") for name in backing_services.DEPLOYMENTS)
KUEUE = Service(KUEUE_NAMESPACE, "kueue-controller-manager", "control-plane=controller-manager")
KUBERAY = Service(RAY_NAMESPACE, "kuberay-operator", "app.kubernetes.io/name=kuberay")


@dataclass(frozen=True)
class Installation:
    """Windlass in the cluster."""

    cluster: LocalCluster
    client: Client
    relay: ServiceRelay
    lifetimes: RayJobLifetimes
    """Of all RayJobs since the installation."""

    def items(self, path: str) -> list[Json]:
        with ClusterApi(self.cluster) as api:
            return list(api.items(path))

    def delete_pods(self, namespace: str, selector: str) -> list[str]:
        """Kill the pods without a grace period, and return their names."""
        return kubectl(self.cluster, "-n", namespace, "delete", "pods", "-l", selector, *KILLED, "-o", "name").split()

    def kill(self, *services: Service) -> None:
        """Kill the pods of services."""
        for service in services:
            assert self.delete_pods(service.namespace, service.selector), service

    def wait_ready(self, *services: Service) -> None:
        """Wait until the pods that replace killed ones are ready."""
        with ClusterApi(self.cluster) as api:
            for service in services:
                eventually(partial(service.ready, api), f"{service.deployment} is ready again", 120)

    @contextmanager
    def outage(self, service: Service) -> Iterator[None]:
        """Have no pod of a service inside of the block."""
        scale = ("-n", service.namespace, "scale", "deployment", service.deployment)
        kubectl(self.cluster, *scale, "--replicas=0")
        try:
            self.delete_pods(service.namespace, service.selector)
            yield
        finally:
            kubectl(self.cluster, *scale, "--replicas=1")
            self.wait_ready(service)

    def submit(self, name: str, **changes: Any) -> JobOut:
        return self.client.jobs.create(_spec(name, changes))

    def submit_with_lost_reply(self, name: str, **changes: Any) -> JobOut:
        """Submit a job, close the connection before the reply, and submit it again with the same key."""
        connection, body = self.client.connection, json.dumps({"spec": _spec(name, changes)})
        headers = {
            "Authorization": f"Bearer {connection.key}",
            "Content-Type": "application/json",
            "Idempotency-Key": name,
        }
        replies: list[Json] = []

        def send(*, read: bool) -> bool:
            with closing(http.client.HTTPConnection(urlsplit(connection.url).netloc)) as sender:
                sender.request("POST", f"/v1/projects/{connection.project}/jobs", body, headers)
                if read:
                    replies.append(json.loads(sender.getresponse().read()))
                    assert replies[-1].get("code") in (None, "idempotency_in_progress"), replies[-1]
                return read and "id" in replies[-1]

        send(read=False)
        eventually(partial(send, read=True), "the submission is answered")  # the first one may still be in progress
        assert [job.id for job in self.client.jobs.list() if job.name == name] == [replies[-1]["id"]]
        return self.client.jobs.get(replies[-1]["id"])

    def succeeded(self, job: JobOut, seconds: float = 900) -> JobDetailOut:
        ended = self.client.jobs.wait(job.id, timeout=seconds)
        log = "" if ended.state == JobState.SUCCEEDED else "\n".join(self.log(job)[-30:])
        assert ended.state == JobState.SUCCEEDED, f"{ended.reason}\n{log}"
        return ended

    def log(self, job: JobOut) -> list[str]:
        return "".join(chunk.text for chunk in self.client.jobs.follow_log(job.id)).splitlines()

    def steps(self, job: JobOut) -> list[int]:
        """The steps of the training loss, in order of their reports."""
        return [point.step for point in self.client.jobs.metric_points(job.id, "train_loss")]

    def wait_for_progress(self, job: JobOut, steps: int = 5, seconds: float = 240) -> None:
        """Wait until the job has trained some more steps."""

        def newest() -> int:
            try:
                return max(self.steps(job), default=0)
            except WindlassError:
                return before

        before = 0
        before = newest()
        eventually(lambda: newest() >= before + steps, f"{job.name} trains {steps} steps beyond {before}", seconds)

    def wait_for_state(self, job: JobOut, state: JobState, seconds: float = 240) -> None:
        eventually(lambda: self.client.jobs.get(job.id).state == state, f"{job.name} is {state}", seconds)

    def check_trained_once(self, job: JobOut, steps: int) -> JobDetailOut:
        """Check that a job succeeded with every step once and one model version; return it."""
        ended = self.succeeded(job)
        reported = self.steps(job)
        assert reported == list(range(1, steps + 1))
        assert [version.number for version in self.client.models.versions(ended.model)] == [1]
        return ended

    def nothing_of(self, job: JobOut) -> bool:
        """Whether pods, RayJob and Secrets of the job's trainer are gone."""
        selector = f"labelSelector=windlass.dev%2Fjob%3D{job.id.replace('_', '-')}"
        path = f"/api/v1/namespaces/{NAMESPACE}"
        names = {run.name for run in self.client.jobs.get(job.id).runs}
        rays = self.items(f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayjobs?{selector}")
        pods = [each["metadata"]["name"] for each in self.items(f"{path}/pods")]
        secrets = [each["metadata"]["name"] for each in self.items(f"{path}/secrets")]
        left = [name for name in (*pods, *secrets) if any(name.startswith(run) for run in names)]
        return not rays and not left

    def quota_in_use(self) -> int:
        project = json.loads(kubectl(self.cluster, "get", "projects.windlass.dev", PROJECT, "-o", "json"))
        return int(project["status"]["used"])


def _spec(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    return {**SPEC, "name": name, "model": name, "resources": {"pool": POOL}, **changes}


@pytest.fixture(scope="package")
def installation(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    start_cluster(cluster, install=False)
    install_charts(cluster, PROJECT, {"settings": SETTINGS})
    with relayed_service(cluster, SYSTEM_NAMESPACE, "windlass-api", API_PORT) as relay:
        folder = tmp_path_factory.mktemp("chain")
        with Client(url=f"http://{relay.address}", key=admin_key(cluster), project=PROJECT) as client:
            ensure_test_data(client, tiny_encoder(folder / "tiny"), folder, PROJECT)
            lifetimes = RayJobLifetimes(admin_client(cluster))
            with lifetimes.watch:
                yield Installation(cluster, client, relay, lifetimes)


@pytest.fixture(scope="package")
def trained(installation: Installation) -> JobDetailOut:
    """A job that has trained 40 steps and registered version 1 of the model ``small``."""
    return installation.succeeded(installation.submit("small", training={**SPEC["training"], "max_steps": 40}))


@pytest.fixture(scope="package")
def served(installation: Installation, trained: JobDetailOut) -> str:
    """The name of an endpoint that serves the version of ``trained``."""
    traffic = [{"model": trained.model, "version": trained.model_version, "weight": 100}]
    installation.client.endpoints.create("small", {"traffic": traffic})
    assert installation.client.endpoints.wait("small", timeout=240).state is EndpointState.READY
    return "small"
