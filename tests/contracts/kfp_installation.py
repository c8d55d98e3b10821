"""Finds Windlass in the cluster of a real Kubeflow Pipelines server, and prepares a project there for whole jobs.

On the project's own test cluster, which has the images, Windlass is installed for the tests if it is not there.
"""

import base64
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster_demo.installation import API_PORT, SYSTEM_NAMESPACE, helm, install_charts, start_cluster
from tests.contracts.kfp_jobs import KfpInstallation
from tests.factories.small_jobs import ensure_test_data
from tests.factories.tiny_models import tiny_encoder
from tests.integration.cluster.waiting import eventually
from tests.testcluster import lifecycle
from tests.testcluster.layout import LocalCluster, default_cache, default_state
from tests.testcluster.node import POOL as TEST_POOL

from windlass.domain.errors import WindlassError
from windlass.kube.client import KubeClient
from windlass.kube.kinds import DEPLOYMENT, NAMESPACE, OWN, POOL, PROJECT, SECRET
from windlass.kube.objects import Kind, Object, Ref
from windlass.sdk import Client

_WORKER: Final = "windlass-worker"
_MANAGER: Final = "kfp-test"
_FORWARDED: Final = re.compile(r"Forwarding from (127\.0\.0\.1:\d+)")


@dataclass(frozen=True)
class KfpServerAddress:
    """A server, as this process and as pods reach it."""

    host: str
    namespace: str

    def host_for_pods(self, kube: KubeClient) -> str:
        """Return the URL of the Service of the API server."""
        service = kube.get(Ref(Kind("v1", "Service"), "ml-pipeline", self.namespace))
        ports = {port["port"] for port in service["spec"]["ports"]}
        return f"http://ml-pipeline.{self.namespace}.svc:{8888 if 8888 in ports else min(ports)}"


@contextmanager
def installation(kube: KubeClient, server: KfpServerAddress) -> Iterator[KfpInstallation]:
    """Prepare a project on the installation whose runs are on a server; delete it afterwards.

    Raises:
        AssertionError: there is no such installation, and none can be made.
    """
    with ExitStack() as stack:
        worker = _worker(kube)
        if worker is None:
            stack.enter_context(_installed_for_tests(kube, server))
            worker = _worker(kube)
        assert worker is not None
        namespace, settings = worker["metadata"]["namespace"], _environment(worker)
        secret = kube.get(Ref(SECRET, "windlass-secrets", namespace))
        key = base64.b64decode(secret["data"]["admin-key"]).decode()
        address = stack.enter_context(_forwarded(namespace))
        pool = _pool(kube)
        client = stack.enter_context(Client(f"http://{address}", key=key, project=_project(kube, pool, stack)))
        if "tiny" not in {model.name for model in client.base_models.list()}:
            stack.callback(client.base_models.delete, "tiny")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        eventually(lambda: _exists(client), "the API knows the project", 60)
        ensure_test_data(client, tiny_encoder(folder / "tiny"), folder, str(client.connection.project))
        installed = KfpInstallation(
            client=client,
            pool=pool,
            kube=kube,
            server=server.host,
            namespace=server.namespace,
            api_url=f"http://windlass-api.{namespace}.svc:{API_PORT}",
            pipelines_image=settings["WINDLASS_CLUSTER_PIPELINES_IMAGE"],
        )
        yield installed
        installed.delete_from_server()


def _worker(kube: KubeClient) -> Object | None:
    """Return the Deployment of the worker of an installation whose runs are on a server."""
    found = [each for each in kube.list(DEPLOYMENT).items if each["metadata"]["name"] == _WORKER]
    return next((each for each in found if _environment(each).get("WINDLASS_PIPELINES_BACKEND") == "kfp"), None)


def _environment(deployment: Object) -> dict[str, Any]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value") for variable in container["env"]}


@contextmanager
def _installed_for_tests(kube: KubeClient, server: KfpServerAddress) -> Iterator[None]:
    cluster = LocalCluster(default_state(), default_cache())
    assert lifecycle.is_up(cluster), (
        "no Windlass with pipelines.backend=kfp in the cluster: install helm/windlass with pipelines.kfp.host="
        f"{server.host_for_pods(kube)}"
    )
    start_cluster(cluster, install=False)
    values = {"backend": "kfp", "kfp": {"host": server.host_for_pods(kube), "namespace": server.namespace}}
    try:
        install_charts(cluster, "kfp-unused", {"pipelines": values})
        yield
    finally:
        _delete(kube, Ref(PROJECT, "kfp-unused"))
        _delete(kube, Ref(POOL, TEST_POOL))
        helm(cluster, "uninstall", "windlass")
        helm(cluster, "uninstall", "windlass-crds")
        _delete(kube, Ref(NAMESPACE, SYSTEM_NAMESPACE))


def _pool(kube: KubeClient) -> str:
    pools = [each["metadata"]["name"] for each in kube.list(POOL).items]
    assert pools, "the cluster has no GPUPool: create one"
    return TEST_POOL if TEST_POOL in pools else min(pools)


def _project(kube: KubeClient, pool: str, stack: ExitStack) -> str:
    """Create a project with a quota of two GPUs."""
    name = f"kfp-test-{uuid.uuid4().hex[:8]}"
    spec = {"quotas": [{"pool": pool, "nominal": 2}]}
    kube.apply({"apiVersion": OWN, "kind": "Project", "metadata": {"name": name}, "spec": spec}, manager=_MANAGER)
    stack.callback(_delete, kube, Ref(PROJECT, name))
    return name


def _delete(kube: KubeClient, ref: Ref) -> None:
    """Delete an object of Windlass, and wait until the operators have deleted what belongs to it."""
    kube.delete(ref)
    eventually(lambda: kube.find(ref) is None, f"{ref} is deleted", 120)


def _exists(client: Client) -> bool:
    try:
        client.projects.get()
    except WindlassError:
        return False
    return True


@contextmanager
def _forwarded(namespace: str) -> Iterator[str]:
    """Forward a port of this machine to the API; the value is its address."""
    command = ["kubectl", "-n", namespace, "port-forward", "service/windlass-api", f":{API_PORT}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = _FORWARDED.search(process.stdout.readline())
            assert found is not None, "kubectl port-forward did not start"
            yield found[1]
        finally:
            process.terminate()
