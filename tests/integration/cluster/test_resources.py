"""The custom resources on a real API server: validation, defaults, and Kueue's acceptance of rendered objects."""

from functools import partial
from typing import Any

import pytest
from tests.integration.cluster.installed import install_crds
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, apply, condition, kubectl
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.fixture import command
from tests.testcluster.layout import LocalCluster
from tests.unit.operators.desired_objects import endpoint_spec, served_version

from windlass.kube.names import cluster_queue_of
from windlass.kube.resources import GPUPool, Project
from windlass.kube.resources.base import GROUP, VERSION
from windlass.kube.resources.model_endpoint import ModelEndpointSpec
from windlass_operators.render import gpu_pool, namespace, queues
from windlass_operators.render.network import PlatformNetwork

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
API = f"/apis/{GROUP}/{VERSION}"


@pytest.fixture(scope="module")
def defined(cluster: LocalCluster) -> LocalCluster:
    """The cluster with the CRDs."""
    install_crds(cluster)
    return cluster


def has_condition(api: ClusterApi, path: str, kind: str) -> bool:
    return condition(api.read(path), kind)


def resource(kind: str, name: str, spec: Json, space: str | None = None) -> Json:
    metadata = {"name": name} | ({"namespace": space} if space else {})
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}


def pool(name: str = "a100", **spec: Any) -> Json:
    return resource("GPUPool", name, {"nodeLabels": {"windlass.dev/pool": name}} | spec)


def project(name: str = "search", **spec: Any) -> Json:
    return resource("Project", name, spec)


def endpoint(**spec: Any) -> Json:
    return resource("ModelEndpoint", "live", endpoint_spec() | spec, "default")


@pytest.mark.parametrize(
    ("desired", "message"),
    [
        (pool("a.b"), "the name of a pool must not contain a dot"),
        (project("a.b"), "the name of a project must not contain a dot"),
        (pool("a" * 41), "the name of a pool must have at most 40 characters"),
        (pool(pricePerGPUHour="cheap"), "pricePerGPUHour"),
        (pool(podTemplate={}), "unknown field"),
        (pool(taints=[{"key": "spot"}, {"key": "spot"}]), "duplicate entries"),
        (project(quotas=[{"pool": "a100", "nominal": 4, "lendingLimit": 5}], cohort="lab"), "cannot lend more"),
        (project(quotas=[{"pool": "a100", "nominal": 4, "borrowingLimit": 5}]), "require a cohort"),
        (project(quotas=[{"pool": "a100", "nominal": 1}, {"pool": "a100", "nominal": 2}]), "duplicate entries"),
        (project(members=[{"name": "ada", "role": "editor"}, {"name": "ada", "role": "admin"}]), "duplicate entries"),
        (project(members=[{"name": "ada", "role": "root"}]), "Unsupported value"),
        (endpoint(versions=[served_version(gpus=1)]), "requires pool"),
        (endpoint(versions=[]), "should have at least 1 items"),
        (endpoint(versions=[served_version(replicas=-1)]), "greater than or equal to 0"),
        (endpoint(versions=[served_version(task="poetry")]), "Unsupported value"),
        (endpoint(versions=[served_version(), served_version()]), "duplicate entries"),
        (endpoint(versions=[served_version(service="9")]), "should match"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_spec_is_refused_with_a_message(defined: LocalCluster, desired: Json, message: str) -> None:
    with pytest.raises(LocalClusterError, match=message):
        apply(defined, [desired])


def test_defaults_are_set_and_documented(defined: LocalCluster) -> None:
    apply(defined, [project("plain", displayName="Plain")])
    with ClusterApi(defined) as api:
        stored = api.read(f"{API}/projects/plain") or {}
    read = Project.model_validate({"metadata": stored["metadata"], "spec": stored["spec"]})
    assert stored["spec"]["whenDeleted"] == "Wait"
    assert stored["spec"]["jobs"] == {"maxDurationSeconds": 604800, "priorityCeiling": 0}
    assert read.spec == Project.model_validate({"metadata": {"name": "x"}, "spec": {"displayName": "Plain"}}).spec
    assert "idle ones may be lent" in kubectl(defined, "explain", "project.spec.quotas.nominal")
    assert "COHORT" in kubectl(defined, "get", "projects")
    kubectl(defined, "delete", "project", "plain")


def test_a_valid_endpoint_is_stored_without_a_change(defined: LocalCluster) -> None:
    """Else the control plane would write it again and again."""
    desired = endpoint()
    apply(defined, [desired])
    with ClusterApi(defined) as api:
        stored = api.read(f"{API}/namespaces/default/modelendpoints/live") or {}
    assert stored["spec"] == ModelEndpointSpec.model_validate(desired["spec"]).wire()
    kubectl(defined, "delete", "modelendpoint", "live")


def test_kueue_accepts_the_rendered_pools_and_projects(defined: LocalCluster) -> None:
    a100 = GPUPool.model_validate(pool(taints=[{"key": "nvidia.com/gpu", "value": "present"}]))
    pools = {"a100": a100}
    manifests = [
        project(name, cohort="lab", quotas=[{"pool": "a100", "nominal": 8, "borrowingLimit": 4}])
        for name in ("search", "ranking")
    ]
    made = [*gpu_pool.objects(a100)]
    for desired in manifests:
        desired_project = Project.model_validate(desired | {"metadata": desired["metadata"] | {"uid": "u"}})
        made += [*namespace.objects(desired_project, pools, PlatformNetwork()), *queues.objects(desired_project, pools)]
    seen = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one for one in made}
    try:
        apply(defined, seen.values())
        with ClusterApi(defined) as api:
            for desired in manifests:
                name = cluster_queue_of(desired["metadata"]["name"], "a100")
                queue = f"/apis/kueue.x-k8s.io/v1beta2/clusterqueues/{name}"
                eventually(partial(has_condition, api, queue, "Active"), f"{queue} is active")
        apply(defined, seen.values())  # and again: what we own is stable
    finally:
        kubectl(defined, "delete", "namespace", "wl-search", "wl-ranking", "--wait=false")
        kubectl(defined, "delete", "clusterqueue,cohort,resourceflavor", "-l", "app.kubernetes.io/managed-by=windlass")


def test_a_reset_deletes_objects_with_finalizers_along_with_their_crds(defined: LocalCluster) -> None:
    """Otherwise they would stay in etcd and reappear, half deleted, with the next CRD."""
    blocked = project("held")
    blocked["metadata"]["finalizers"] = ["windlass.dev/never-removed"]
    apply(defined, [blocked])
    assert command(defined, "reset").returncode == 0
    install_crds(defined)
    with ClusterApi(defined) as api:
        assert api.read(f"{API}/projects/held") is None
    assert command(defined, "reset").returncode == 0
