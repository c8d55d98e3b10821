"""Runs the contract of serving back ends on a real API server; the test writes the status in place of KubeRay."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.contracts.serving_backend import ServingBackendContract
from tests.factories.served_apps import kube_serving, make_served_app
from tests.integration.cluster.installed import admin_client, install_crds
from tests.testcluster.layout import LocalCluster
from tests.unit.operators import desired_objects

from windlass.domain.endpoints import ServedApp
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError
from windlass.kube.kinds import ENDPOINT, RAY_SERVICE
from windlass.kube.names import ENDPOINT_LABEL, namespace_of
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.resources import ModelEndpoint
from windlass.kube.serving.backend import KubernetesServing
from windlass.kube.serving.names import credentials_of
from windlass_operators.children import Owner, with_owner
from windlass_operators.render import model_endpoint

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
PROJECT = "srv-contract"
NAMESPACE = namespace_of(PROJECT)
TESTER = "serving-test"


@dataclass
class KubeRayDouble:
    """Renders RayServices as the operators do, and writes their status; KubeRay ignores them (``managedBy``)."""

    client: KubeClient
    bad: set[str]
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stopped.wait(0.1):
            for endpoint in self.client.list(ENDPOINT, NAMESPACE).items:
                try:
                    self._reconcile(endpoint)
                except KubeApiError:
                    continue  # it was changed or deleted meanwhile

    def _reconcile(self, raw: Object) -> None:
        metadata = raw["metadata"]
        endpoint = ModelEndpoint.model_validate({"status": {}} | raw, extra="ignore")
        owner = Owner(ENDPOINT, metadata["name"], metadata["uid"], NAMESPACE, metadata["generation"])
        services = model_endpoint.objects(endpoint, desired_objects.project(name=PROJECT), {})
        for service, version in zip(services, endpoint.spec.versions, strict=True):
            service["spec"]["managedBy"] = "kueue.x-k8s.io/multikueue"
            self.client.apply(with_owner(service, owner), manager=TESTER, force=True)
            self._write(Ref.of(service), _service_status(version.key, failed=version.key in self.bad))
        for live in self.client.list(RAY_SERVICE, NAMESPACE, labels=f"{ENDPOINT_LABEL}={metadata['name']}").items:
            if live["metadata"]["name"] not in {version.service for version in endpoint.spec.versions}:
                self.client.delete(Ref.of(live))
        self._write(Ref(ENDPOINT, metadata["name"], NAMESPACE), {"observedGeneration": metadata["generation"]})

    def _write(self, ref: Ref, status: Object) -> None:
        self.client.patch(ref, {"status": status}, manager=TESTER, subresource="status")


def _service_status(key: str, *, failed: bool) -> Object:
    application = {"status": "DEPLOY_FAILED" if failed else "RUNNING", "message": "it has other files"}
    condition = {
        "type": "Ready",
        "status": "False" if failed else "True",
        "reason": "R",
        "message": "",
        "lastTransitionTime": desired_objects.MADE,
    }
    active = {"applicationStatuses": {key: application}}
    return {"conditions": [condition], "numServeEndpoints": 0 if failed else 1, "activeServiceStatus": active}


def served(key: str) -> ServedApp:
    return make_served_app(key, project=PROJECT)


def serving(client: KubeClient, image: str = "windlass/ray:1") -> KubernetesServing:
    return kube_serving(client, "srv-contract", image)


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[KubeClient]:
    install_crds(cluster)
    client = admin_client(cluster)
    space = Ref(Kind("v1", "Namespace"), NAMESPACE)
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, manager=TESTER)
    double = KubeRayDouble(admin_client(cluster), bad={"bad"})
    thread = threading.Thread(target=double.run)
    thread.start()
    yield client
    double.stopped.set()
    thread.join()
    client.delete(space)


class TestKubernetesServing(ServingBackendContract):
    @pytest.fixture
    def backend(self, client: KubeClient) -> Iterator[KubernetesServing]:
        backend = serving(client)
        yield backend
        backend.apply([])
        backend.stop()

    @pytest.fixture
    def good(self) -> ServedApp:
        return served("good")

    @pytest.fixture
    def bad(self) -> ServedApp:
        return served("bad")

    def test_the_secret_of_a_service_is_deleted_with_its_endpoint(
        self, client: KubeClient, backend: KubernetesServing, good: ServedApp
    ) -> None:
        backend.apply([good])
        live = client.get(Ref(ENDPOINT, "good", NAMESPACE))
        [version] = live["spec"]["versions"]
        secret = client.get(Ref(Kind("v1", "Secret"), credentials_of(version["service"]), NAMESPACE))
        assert set(secret["data"]) == {"authorization", "token"}
        assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [live["metadata"]["uid"]]

    def test_an_unchanged_endpoint_is_not_written_again(
        self, client: KubeClient, backend: KubernetesServing, good: ServedApp
    ) -> None:
        backend.apply([good])
        before = client.get(Ref(ENDPOINT, "good", NAMESPACE))["metadata"]["generation"]
        for _ in range(3):
            backend.apply([good])
        successor = serving(client)
        successor.apply([good])
        successor.stop()
        assert client.get(Ref(ENDPOINT, "good", NAMESPACE))["metadata"]["generation"] == before
