"""The custom resources on a real API server: what it refuses and fills in, and that Kueue takes what we render."""

from functools import partial
from typing import Any

import pytest
from tests.bed.cluster_api import ClusterApi, apply, condition, kubectl
from tests.bed.failures import BedError
from tests.bed.fixture import command
from tests.bed.layout import Bed
from tests.integration.cluster.installed import define
from tests.integration.cluster.waiting import eventually

from windlass.kube.names import cluster_queue_of
from windlass.kube.resources import GPUPool, Project
from windlass.kube.resources.base import GROUP, VERSION
from windlass_operators.render import gpu_pool, namespace, queues

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
API = f"/apis/{GROUP}/{VERSION}"


@pytest.fixture(scope="module")
def defined(cluster: Bed) -> Bed:
    """The cluster with the definitions in it."""
    define(cluster)
    return cluster


def stands(api: ClusterApi, path: str, kind: str) -> bool:
    return condition(api.read(path), kind)


def resource(kind: str, name: str, spec: Json, space: str | None = None) -> Json:
    metadata = {"name": name} | ({"namespace": space} if space else {})
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}


def pool(name: str = "a100", **spec: Any) -> Json:
    return resource("GPUPool", name, {"nodeLabels": {"windlass.dev/pool": name}} | spec)


def project(name: str = "search", **spec: Any) -> Json:
    return resource("Project", name, spec)


def endpoint(**spec: Any) -> Json:
    traffic = {"traffic": [{"model": "tickets", "version": 1}]}
    return resource("ModelEndpoint", "live", traffic | spec, "default")


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (pool("a.b"), "the name of a pool holds no dot"),
        (project("a.b"), "the name of a project holds no dot"),
        (pool("a" * 41), "the name of a pool has at most 40 characters"),
        (pool(pricePerGPUHour="cheap"), "pricePerGPUHour"),
        (pool(podTemplate={}), "unknown field"),
        (pool(taints=[{"key": "spot"}, {"key": "spot"}]), "duplicate entries"),
        (project(quotas=[{"pool": "a100", "nominal": 4, "lendingLimit": 5}], cohort="lab"), "cannot lend more"),
        (project(quotas=[{"pool": "a100", "nominal": 4, "borrowingLimit": 5}]), "need a cohort"),
        (project(quotas=[{"pool": "a100", "nominal": 1}, {"pool": "a100", "nominal": 2}]), "duplicate entries"),
        (project(members=[{"name": "ada", "role": "editor"}, {"name": "ada", "role": "owner"}]), "duplicate entries"),
        (project(members=[{"name": "ada", "role": "root"}]), "Unsupported value"),
        (endpoint(minReplicas=3, maxReplicas=2), "minReplicas is above maxReplicas"),
        (endpoint(traffic=[{"model": "tickets", "version": 1, "weight": 90}]), "must add up to 100"),
        (endpoint(traffic=[{"model": "tickets"}]), "either a version or an alias"),
        (endpoint(resources={"gpus": 1}), "needs a pool"),
        (endpoint(traffic=[]), "should have at least 1 items"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wish_that_makes_no_sense_is_refused_with_words(defined: Bed, wish: Json, words: str) -> None:
    with pytest.raises(BedError, match=words):
        apply(defined, [wish])


def test_what_is_left_out_is_filled_in_and_explained(defined: Bed) -> None:
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


def test_an_endpoint_is_scaled_by_its_subresource(defined: Bed) -> None:
    apply(defined, [endpoint(maxReplicas=5)])
    kubectl(defined, "scale", "modelendpoint/live", "--replicas=3")
    assert kubectl(defined, "get", "mep", "live", "-o", "jsonpath={.spec.minReplicas}") == "3"
    kubectl(defined, "delete", "modelendpoint", "live")


def test_kueue_takes_what_pools_and_projects_are_rendered_to(defined: Bed) -> None:
    a100 = GPUPool.model_validate(pool(taints=[{"key": "nvidia.com/gpu", "value": "present"}]))
    pools = {"a100": a100}
    wishes = [
        project(name, cohort="lab", quotas=[{"pool": "a100", "nominal": 8, "borrowingLimit": 4}])
        for name in ("search", "ranking")
    ]
    made = [*gpu_pool.objects(a100)]
    for wish in wishes:
        wished = Project.model_validate(wish | {"metadata": wish["metadata"] | {"uid": "u"}})
        made += [*namespace.objects(wished, pools, "windlass-system"), *queues.objects(wished, pools)]
    seen = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one for one in made}
    try:
        apply(defined, seen.values())
        with ClusterApi(defined) as api:
            for wish in wishes:
                queue = (
                    f"/apis/kueue.x-k8s.io/v1beta2/clusterqueues/{cluster_queue_of(wish['metadata']['name'], 'a100')}"
                )
                eventually(partial(stands, api, queue, "Active"), f"{queue} is active")
        apply(defined, seen.values())  # and again: what we own is stable
    finally:
        kubectl(defined, "delete", "namespace", "wl-search", "wl-ranking", "--wait=false")
        kubectl(defined, "delete", "clusterqueue,cohort,resourceflavor", "-l", "app.kubernetes.io/managed-by=windlass")


def test_a_reset_of_the_bed_takes_held_objects_along_with_their_definitions(defined: Bed) -> None:
    """Else they would lie in etcd and come back, half deleted, with the next definition."""
    held = project("held")
    held["metadata"]["finalizers"] = ["windlass.dev/nobody-removes-this"]
    apply(defined, [held])
    assert command(defined, "reset").returncode == 0
    define(defined)
    with ClusterApi(defined) as api:
        assert api.read(f"{API}/projects/held") is None
    assert command(defined, "reset").returncode == 0
