"""What the network permits a tenant's pods: their peers, DNS, the internal port, and S3 with presigned URLs."""

import hashlib
import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr
from tests.cluster_demo.installation import SYSTEM_NAMESPACE
from tests.integration.cluster.chain.installation import KILLED, NAMESPACE, Installation
from tests.integration.cluster.installed import restricted
from tests.integration.cluster.network_probes import CONNECT, eventually_reachable
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.waiting import eventually
from tests.testcluster import backing_services, processes
from tests.testcluster.cluster_api import Json, apply, condition, kubectl
from tests.testcluster.layout import NODE_ADDRESS, LocalCluster
from tests.testcluster.project_images import reference

from windlass.domain.artifacts import FileEntry
from windlass.kube.names import RUN_LABEL, TASK_LABEL
from windlass.settings import S3Settings
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket
from windlass.storage.s3_signer import S3UrlSigner

pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
OTHER_PROJECT, OUTSIDE = "neighbour", "outside"
RAY_PORTS = (6379, 8265, 10001, 52365)
"""GCS, dashboard and jobs, client, dashboard agent."""
SERVE_PORT, TASK_PORT = 8000, 9000
NAME = "isolation"
# Listens on the ports of its arguments.
_LISTEN = """
import socket, sys, threading
listeners = [socket.create_server(("", int(port)), backlog=64) for port in sys.argv[1:]]
def accept(listener):
    while True:
        listener.accept()[0].close()
for listener in listeners:
    threading.Thread(target=accept, args=[listener]).start()
threading.Event().wait()
"""
# Sends requests from a JSON list of [method, URL, headers, body], and prints a JSON list of [status, body].
_REQUEST = """
import json, sys, urllib.error, urllib.request
def send(method, url, headers, body):
    data = body.encode() if body else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
print(json.dumps([send(*request) for request in json.loads(sys.argv[1])]))
"""


def pod_spec(*ports: int) -> Json:
    """A restricted pod that listens on ports, and can run probes."""
    spec = restricted({}, serviceAccountName="default", terminationGracePeriodSeconds=0)
    spec["containers"][0] |= {
        "image": reference("operators"),
        "imagePullPolicy": "Never",
        "command": ["python", "-c", _LISTEN, *map(str, ports)],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
    }
    return spec


def pod(where: str, name: str, labels: dict[str, str], *ports: int) -> Json:
    metadata = {"name": name, "namespace": where, "labels": labels | {"app": NAME}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(*ports)}


def create_tenant_pods(cluster: LocalCluster, where: str) -> None:
    """Create two pods with Ray's ports in the namespace of a project, where only the control plane may create Jobs."""
    template = {"metadata": {"labels": {"app": NAME}}, "spec": pod_spec(*RAY_PORTS, SERVE_PORT)}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "namespace": where},
        "spec": {"parallelism": 2, "completions": 2, "backoffLimit": 0, "template": template},
    }
    worker = ("--as", f"system:serviceaccount:{SYSTEM_NAMESPACE}:windlass-worker", "--as-group", "system:masters")
    kubectl(cluster, "create", "-f", "-", *worker, given=json.dumps(job))


@dataclass
class Pods:
    """Pods of two projects, tasks of the control plane, and a pod outside of Windlass."""

    installation: Installation
    addresses: dict[tuple[str, str], str] = field(default_factory=dict)
    """By namespace and name."""

    @property
    def cluster(self) -> LocalCluster:
        return self.installation.cluster

    def names(self, where: str) -> list[str]:
        return [name for namespace, name in self.addresses if namespace == where]

    def targets(self, where: str, *ports: int) -> list[str]:
        found = [address for (namespace, _), address in self.addresses.items() if namespace == where]
        return [f"{address}:{port}" for address in found for port in ports]

    def read_addresses(self) -> bool:
        """Read the addresses of all pods, and return whether all are ready."""
        self.addresses.clear()
        found = self.installation.items(f"/api/v1/pods?labelSelector=app%3D{NAME}")
        for each in found:
            metadata = each["metadata"]
            self.addresses[metadata["namespace"], metadata["name"]] = each["status"].get("podIP", "")
        return len(found) == 7 and all(condition(each, "Ready") for each in found)

    def component(self, name: str, port: int) -> str:
        """A port of a pod of the control plane."""
        selector = f"app.kubernetes.io%2Fcomponent%3D{name}"
        [found, *_] = self.installation.items(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods?labelSelector={selector}")
        return f"{found['status']['podIP']}:{port}"

    def reachable_from_node(self, targets: list[str]) -> set[str]:
        """The node is subject to no policy: what it does not reach does not listen."""
        output = processes.run_inside(self.cluster, sys.executable, "-c", CONNECT, *targets)
        return {target for target, connects in zip(targets, json.loads(output), strict=True) if connects}


@pytest.fixture(scope="module")
def pods(installation: Installation) -> Iterator[Pods]:
    cluster = installation.cluster
    project = {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": OTHER_PROJECT},
        "spec": {},
    }
    apply(cluster, [project])
    neighbours = f"/api/v1/namespaces/wl-{OTHER_PROJECT}/serviceaccounts"
    eventually(lambda: len(installation.items(neighbours)) == 3, "the operators have created the namespace", 60)
    apply(cluster, [namespace(OUTSIDE)])
    for where in (NAMESPACE, f"wl-{OTHER_PROJECT}"):
        create_tenant_pods(cluster, where)
    run_labels = {TASK_LABEL: "run", RUN_LABEL: NAME}
    apply(
        cluster,
        [
            pod(SYSTEM_NAMESPACE, f"{NAME}-run", run_labels, TASK_PORT),
            pod(SYSTEM_NAMESPACE, f"{NAME}-data", {TASK_LABEL: "data"}, TASK_PORT),
            pod(OUTSIDE, NAME, {}),
        ],
    )
    created = Pods(installation)
    eventually(created.read_addresses, "the pods are ready", 90)
    yield created
    options = (*KILLED, "--ignore-not-found")
    kubectl(cluster, "-n", NAMESPACE, "delete", "job", NAME, *options)
    kubectl(cluster, "-n", SYSTEM_NAMESPACE, "delete", "pods", "-l", f"app={NAME}", *options)
    kubectl(cluster, "delete", "namespace", OUTSIDE, "--wait=false")
    kubectl(cluster, "delete", "projects.windlass.dev", OTHER_PROJECT, "--wait=false")


def test_a_tenants_pod_reaches_its_peers_the_internal_port_and_the_object_store_and_nothing_else(pods: Pods) -> None:
    internal, store = f"windlass-internal.{SYSTEM_NAMESPACE}.svc:8742", f"s3.{backing_services.NAMESPACE}.svc:7070"
    peers = pods.targets(NAMESPACE, *RAY_PORTS, SERVE_PORT)
    # Those that no ingress policy protects: a pod outside of Windlass reaches them.
    open_to_others = [
        *("kubernetes.default.svc:443", f"{NODE_ADDRESS}:6443", f"{NODE_ADDRESS}:10250"),
        f"postgresql.{backing_services.NAMESPACE}.svc:5432",
        f"windlass-api.{SYSTEM_NAMESPACE}.svc:8741",
    ]
    # Those that nobody but the node reaches.
    closed = [
        *pods.targets(f"wl-{OTHER_PROJECT}", *RAY_PORTS, SERVE_PORT),
        *pods.targets(SYSTEM_NAMESPACE, TASK_PORT),
        pods.component("operators", 8080),
        pods.component("worker", 8741),
    ]
    targets = [internal, store, *peers, *open_to_others, *closed]
    [tenant, _] = pods.names(NAMESPACE)
    eventually_reachable(pods.cluster, NAMESPACE, tenant, targets, [internal, store, *peers])
    # The same probe succeeds where no policy applies.
    eventually_reachable(pods.cluster, OUTSIDE, NAME, targets, [store, *open_to_others])
    assert pods.reachable_from_node([*peers, *closed]) == {*peers, *closed}


def test_the_pods_of_tasks_reach_no_tenant_and_no_database(pods: Pods) -> None:
    internal, store = f"windlass-internal.{SYSTEM_NAMESPACE}.svc:8742", f"s3.{backing_services.NAMESPACE}.svc:7070"
    api_server, database = "kubernetes.default.svc:443", f"postgresql.{backing_services.NAMESPACE}.svc:5432"
    targets = [internal, store, api_server, database, *pods.targets(NAMESPACE, *RAY_PORTS, SERVE_PORT)]
    eventually_reachable(pods.cluster, SYSTEM_NAMESPACE, f"{NAME}-data", targets, [internal, store])
    # A run creates RayJobs.
    eventually_reachable(pods.cluster, SYSTEM_NAMESPACE, f"{NAME}-run", targets, [internal, store, api_server])


def test_the_control_plane_reaches_model_servers_and_none_of_rays_ports(pods: Pods) -> None:
    api = "deployment/windlass-api"
    targets = pods.targets(NAMESPACE, *RAY_PORTS, SERVE_PORT)
    eventually_reachable(pods.cluster, SYSTEM_NAMESPACE, api, targets, pods.targets(NAMESPACE, SERVE_PORT))


def test_a_tenants_pod_gets_only_objects_with_presigned_urls(pods: Pods) -> None:
    settings = S3Settings(
        bucket=backing_services.BUCKET,
        endpoint=backing_services.S3_ENDPOINT,
        access_key_id=backing_services.S3_ACCESS_KEY_ID,
        secret_access_key=SecretStr(backing_services.S3_SECRET_ACCESS_KEY),
    )
    signer = S3UrlSigner(S3ObjectStore(S3Bucket.connect(settings)), None, 600, settings.part_bytes)
    key, content = f"{NAME}-{secrets.token_hex(4)}/object", "content"
    written = signer.write(key, FileEntry(bytes=len(content), sha256=hashlib.sha256(content.encode()).hexdigest()))
    read = signer.read(key, len(content)).url
    bucket = f"{backing_services.S3_ENDPOINT}/{backing_services.BUCKET}"
    requests = [
        ["PUT", written.url, dict(written.headers), content],
        ["GET", read, {}, ""],
        ["GET", f"{bucket}/{key}", {}, ""],
        ["GET", read.replace("/object?", "/another?"), {}, ""],
        ["GET", f"{bucket}?list-type=2", {}, ""],
        ["PUT", f"{bucket}/{key}-2", {}, content],
        ["DELETE", f"{bucket}/{key}", {}, ""],
    ]
    execute = ("exec", pods.names(NAMESPACE)[0], "--", "python", "-c", _REQUEST, json.dumps(requests))
    responses = json.loads(kubectl(pods.cluster, "-n", NAMESPACE, *execute))
    assert responses == [[200, ""], [200, content], *[[403, ""]] * 5]
