"""ModelEndpoint -> RayService, and why one is not rendered."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operators import wishes

from windlass.kube.names import SERVER_ACCOUNT
from windlass.kube.priorities import LADDER, class_named, class_of
from windlass.kube.store import Store
from windlass_operators.decide import endpoint as decide
from windlass_operators.kinds import ENDPOINT
from windlass_operators.queue import Key
from windlass_operators.render import Object, model_endpoint
from windlass_operators.render.model_endpoint import APPLICATION, Serving
from windlass_operators.slimming import slim
from windlass_operators.world import World

SERVING = Serving(image="windlass/ray:1", ray_version="2.60.0")
PROJECT = wishes.project({"pool": "a100", "nominal": 4})
POOLS = {"a100": wishes.pool("a100", resourceName="amd.com/gpu")}
WITH_GPU: dict[str, Any] = {"pool": "a100", "resources": {"gpus": 1, "cpu": "2", "memory": "8Gi"}}


def rendered(**spec: Any) -> Object:
    [service] = model_endpoint.objects(wishes.endpoint([wishes.resolved()], **spec), PROJECT, POOLS, SERVING)
    return service


def pods(service: Object) -> list[Object]:
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_service_is_queued_in_the_projects_queue_with_a_class_within_its_ceiling() -> None:
    labels = rendered(**WITH_GPU)["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "a100"
    assert labels["kueue.x-k8s.io/priority-class"] == "windlass-0"
    low = wishes.project({"pool": "a100", "nominal": 4}, jobs={"priorityCeiling": -7})
    [service] = model_endpoint.objects(wishes.endpoint([wishes.resolved()], **WITH_GPU), low, POOLS, SERVING)
    assert service["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "windlass-minus-10"


def test_every_pod_is_restricted_and_holds_no_token() -> None:
    for spec in pods(rendered(**WITH_GPU)):
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == SERVER_ACCOUNT
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = spec["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["image"] == SERVING.image


def test_gpus_are_asked_for_by_replicas_alone_in_the_pools_own_resource() -> None:
    head, worker = pods(rendered(**WITH_GPU))
    assert "amd.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert worker["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "8Gi", "amd.com/gpu": "1"}


def test_the_number_of_pods_is_fixed_and_what_kueue_writes_is_left_to_it() -> None:
    service = rendered(minReplicas=3, maxReplicas=5)
    cluster = service["spec"]["rayClusterConfig"]
    [group] = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert cluster["enableInTreeAutoscaling"] is False
    assert cluster["authOptions"] == {"mode": "token"}
    assert "suspend" not in cluster
    for spec in pods(service):
        assert not {"nodeSelector", "tolerations", "affinity", "volumes", "hostNetwork"} & set(spec)


def test_each_resolved_version_is_an_application_of_ours() -> None:
    versions = [wishes.resolved(1, weight=90), wishes.resolved(2, weight=10, manifestSha256="b" * 64)]
    endpoint = wishes.endpoint(versions, minReplicas=2, maxReplicas=2)
    [service] = model_endpoint.objects(endpoint, PROJECT, POOLS, SERVING)
    config = json.loads(service["spec"]["serveConfigV2"])
    assert {one["import_path"] for one in config["applications"]} == {APPLICATION}
    assert [one["route_prefix"] for one in config["applications"]] == ["/tickets-v1", "/tickets-v2"]
    assert [one["args"]["manifest_sha256"][0] for one in config["applications"]] == ["a", "b"]
    assert service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"] == 4


@given(st.text(max_size=60))
def test_no_word_of_a_tenant_leaves_its_string(uri: str) -> None:
    """A location with quotes, newlines or YAML in it stays one string in Ray Serve's configuration."""
    endpoint = wishes.endpoint([wishes.resolved(uri=uri)])
    [service] = model_endpoint.objects(endpoint, PROJECT, POOLS, SERVING)
    [application] = json.loads(service["spec"]["serveConfigV2"])["applications"]
    assert application["args"]["uri"] == uri
    assert application["import_path"] == APPLICATION


@pytest.mark.parametrize("spec", [{"stopped": True}, {"minReplicas": 0}])
def test_an_endpoint_without_replicas_has_no_service(spec: dict[str, Any]) -> None:
    assert model_endpoint.objects(wishes.endpoint([wishes.resolved()], **spec), PROJECT, POOLS, SERVING) == []
    assert model_endpoint.objects(wishes.endpoint([]), PROJECT, POOLS, SERVING) == []


def test_the_longest_name_is_short_enough_for_kuberay() -> None:
    assert len(model_endpoint.service_name("e" * 40)) <= 47


def reason(*, space: str = "wl-search", serving: Serving = SERVING, known: bool = True, **spec: Any) -> str:
    versions = [wishes.resolved()] if known else []
    endpoint = wishes.endpoint(versions, space=space, **spec)
    home = decide.project_for(endpoint, {"search": PROJECT})
    found = decide.obstacle(endpoint, home, POOLS, serving)
    return found.reason if found else ""


def test_what_stands_in_the_way_is_named() -> None:
    assert reason(**WITH_GPU) == ""
    assert reason(space="default") == "NoProject"
    assert reason(space="wl-other") == "NoProject"
    assert reason(serving=Serving("", "2.60.0")) == "ServingNotConfigured"
    assert reason(known=False) == "NotResolved"
    assert reason(pool="h100") == "NoQuota"
    assert reason(maxReplicas=11) == "TooManyReplicas"
    assert reason(pool="a100", resources={"gpus": 5}) == "NeverFits"


def test_the_control_planes_part_of_the_status_is_not_written() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    endpoint = wishes.endpoint([wishes.resolved()])
    service = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    status = decide.conditions(endpoint, None, (), service, now)
    assert set(status) == {"observedGeneration", "conditions"}
    assert status["conditions"][0]["reason"] == "Serving"
    assert decide.conditions(endpoint, None, (), None, now)["conditions"][0]["reason"] == "Starting"


@given(st.integers(-1000, 1000))
def test_a_priority_becomes_the_highest_class_that_is_not_above_it(priority: int) -> None:
    [value] = [value for value in LADDER if class_named(value) == class_of(priority)]
    assert value <= priority
    assert not any(value < other <= priority for other in LADDER)


@given(st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_the_ladder_never_turns_two_priorities_round(one: int, other: int) -> None:
    order = [class_named(value) for value in LADDER]
    assert (order.index(class_of(one)) - order.index(class_of(other))) * (one - other) >= 0


def test_endpoints_beyond_the_projects_bound_are_the_youngest() -> None:
    small = wishes.project({"pool": "a100", "nominal": 4}, endpoints={"maxEndpoints": 2})
    world = World(Store(slim))
    for name, made, going in (("b", 3, False), ("a", 3, False), ("old", 1, False), ("gone", 0, True)):
        one = stored(name, creationTimestamp=f"2026-11-22T10:00:0{made}Z")
        one["metadata"] |= {"deletionTimestamp": "2026-11-22T11:00:00Z"} if going else {}
        world.store.put(one)
    found = {}
    for name in ("old", "a", "b"):
        plain = wishes.endpoint([wishes.resolved()])
        endpoint = plain.model_copy(update={"metadata": plain.metadata.model_copy(update={"name": name})})
        verdict = decide.obstacle(endpoint, small, POOLS, SERVING, world.older_endpoints(endpoint))
        found[name] = verdict.reason if verdict else ""
    assert found == {"old": "", "a": "", "b": "TooManyEndpoints"}


def test_an_endpoint_that_comes_or_goes_wakes_the_others_of_its_project() -> None:
    world, one, other = World(Store(slim)), stored("one"), stored("other")
    for each in (one, other):
        world.store.put(each)
    keys = {Key(ENDPOINT, name, "wl-search") for name in ("one", "other")}
    assert world.concerned(one, None) == keys
    assert world.concerned(stored("one", generation=2), one) == {Key(ENDPOINT, "one", "wl-search")}
    assert world.concerned(stored("one", generation=2, deletionTimestamp="now"), one) == keys


def stored(name: str, **more: Any) -> Object:
    metadata = {"name": name, "namespace": "wl-search", "uid": name, "resourceVersion": "1", **more}
    return {"apiVersion": ENDPOINT.api_version, "kind": ENDPOINT.kind, "metadata": metadata}
