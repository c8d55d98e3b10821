"""The numbers of pods of a RayService reach the RayCluster that KubeRay has created."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.fakes.kube_api import KubeApiServer, serve_kube_api
from tests.unit.operators import desired_objects

from windlass.kube.objects import Object, Ref
from windlass_operators.kinds import RAY_CLUSTER, RAY_SERVICE
from windlass_operators.ray_cluster_sizes import RayClusterSizes
from windlass_operators.render import model_endpoint

NAMESPACE = "wl-search"


@pytest.fixture
def server() -> Iterator[KubeApiServer]:
    with serve_kube_api([RAY_CLUSTER, RAY_SERVICE]) as running:
        yield running


def service(version: str, *, active: str = "", pending: str = "", **fields: Any) -> Object:
    """A live RayService, as the operators render it."""
    endpoint = desired_objects.endpoint(desired_objects.served_version(**fields))
    [rendered] = model_endpoint.objects(endpoint, desired_objects.project(), {})
    status = {"activeServiceStatus": {"rayClusterName": active}, "pendingServiceStatus": {"rayClusterName": pending}}
    return rendered | {"metadata": rendered["metadata"] | {"resourceVersion": version}, "status": status}


def create_cluster(server: KubeApiServer, name: str, of: Object) -> None:
    """Create a RayCluster as KubeRay does: with the numbers of that time, and what Kueue has added to its pods."""
    spec = of["spec"]["rayClusterConfig"]
    [group] = spec["workerGroupSpecs"]
    template = group["template"] | {"spec": group["template"]["spec"] | {"nodeSelector": {"pool": "a100"}}}
    groups = [group | {"template": template}]
    kind = {"apiVersion": RAY_CLUSTER.api_version, "kind": RAY_CLUSTER.kind}
    metadata = {"name": name, "namespace": NAMESPACE}
    server.api.create(kind | {"metadata": metadata, "spec": spec | {"workerGroupSpecs": groups, "suspend": False}})


def cluster(server: KubeApiServer, name: str) -> Object:
    return server.api.get(Ref(RAY_CLUSTER, name, NAMESPACE))


@pytest.mark.parametrize("part", ["active", "pending"])
def test_a_cluster_gets_the_numbers_and_the_removed_pods_and_keeps_the_rest(server: KubeApiServer, part: str) -> None:
    create_cluster(server, "one", service("1"))
    before = cluster(server, "one")["spec"]
    sizes = RayClusterSizes(server.client())
    sizes.copy(service("2", replicas=3, **{part: "one"}))
    [group] = cluster(server, "one")["spec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert group["template"] == before["workerGroupSpecs"][0]["template"]
    assert cluster(server, "one")["spec"] | {"workerGroupSpecs": []} == before | {"workerGroupSpecs": []}
    sizes.copy(service("3", replicas=1, removedPods=["a", "b"], **{part: "one"}))
    [group] = cluster(server, "one")["spec"]["workerGroupSpecs"]
    assert (group["replicas"], group["scaleStrategy"]) == (1, {"workersToDelete": ["a", "b"]})
    sizes.copy(service("4", replicas=2, **{part: "one"}))
    [group] = cluster(server, "one")["spec"]["workerGroupSpecs"]
    assert (group["replicas"], "scaleStrategy" in group) == (2, False)


def test_a_cluster_with_the_numbers_of_its_service_is_not_written(server: KubeApiServer) -> None:
    create_cluster(server, "one", service("1", replicas=2))
    version = cluster(server, "one")["metadata"]["resourceVersion"]
    RayClusterSizes(server.client()).copy(service("2", active="one", replicas=2))
    assert cluster(server, "one")["metadata"]["resourceVersion"] == version


def test_numbers_that_kuberay_has_reset_are_copied_again(server: KubeApiServer) -> None:
    """It copies the whole RayService, which its cache may have in an older version, when Kueue suspends it."""
    create_cluster(server, "one", service("1"))
    sizes = RayClusterSizes(server.client())
    sizes.copy(service("2", active="one", replicas=3))
    server.api.delete(Ref(RAY_CLUSTER, "one", NAMESPACE))
    create_cluster(server, "one", service("1"))
    sizes.copy(service("2", active="one", replicas=3))
    assert cluster(server, "one")["spec"]["workerGroupSpecs"][0]["replicas"] == 1, "read once per version"
    sizes.copy(service("3", active="one", replicas=3))
    assert cluster(server, "one")["spec"]["workerGroupSpecs"][0]["replicas"] == 3


def test_a_service_whose_cluster_does_not_exist_yet_is_no_error(server: KubeApiServer) -> None:
    sizes = RayClusterSizes(server.client())
    sizes.copy(service("1"))
    sizes.copy(service("1", pending="one", replicas=2))
    create_cluster(server, "one", service("1"))
    sizes.copy(service("1", pending="one", replicas=2))
    assert cluster(server, "one")["spec"]["workerGroupSpecs"][0]["replicas"] == 2
