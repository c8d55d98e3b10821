"""ModelEndpoint -> RayService, and the blockers of rendering."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operators import desired_objects

from windlass.kube.cache.store import Change, Store
from windlass.kube.cache.transform import transform_for_operators
from windlass.kube.names import SERVER_ACCOUNT
from windlass.kube.objects import Ref
from windlass.kube.priority_classes import PRIORITY_CLASS_VALUES, class_name_for_value, priority_class_name
from windlass.runtime.context import TRANSFER_TOKEN_VARIABLE, TRANSFER_URL_VARIABLE
from windlass.serving.environment import (
    APPLICATION,
    CACHE_VARIABLE,
    CREDENTIALS_VARIABLE,
    DEPLOYMENT_NAME,
)
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.decide import endpoint as decide
from windlass_operators.kinds import ENDPOINT
from windlass_operators.render import Object, model_endpoint
from windlass_operators.work_queue import Key

PROJECT = desired_objects.project({"pool": "a100", "nominal": 4})
POOLS = {"a100": desired_objects.pool("a100", resourceName="amd.com/gpu")}
WITH_GPU = desired_objects.served_version(gpus=1, pool="a100")
RESOURCES: dict[str, Any] = {"resources": {"cpu": "2500m", "memory": "8Gi"}}


def rendered(*versions: Object, **spec: Any) -> Object:
    [service, *_] = model_endpoint.objects(desired_objects.endpoint(*versions, **spec), PROJECT, POOLS)
    return service


def serve_config(service: Object) -> Object:
    config: Object = json.loads(service["spec"]["serveConfigV2"])
    return config


def pods(service: Object) -> list[Object]:
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_service_has_the_projects_queue_and_a_class_within_its_ceiling() -> None:
    labels = rendered(WITH_GPU, **RESOURCES)["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "a100"
    assert labels["kueue.x-k8s.io/priority-class"] == "windlass-0"
    low = desired_objects.project({"pool": "a100", "nominal": 4}, jobs={"priorityCeiling": -7})
    [service] = model_endpoint.objects(desired_objects.endpoint(WITH_GPU, **RESOURCES), low, POOLS)
    assert service["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "windlass-minus-10"


def test_every_pod_is_restricted_and_holds_no_token() -> None:
    for spec in pods(rendered(WITH_GPU, **RESOURCES)):
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == SERVER_ACCOUNT
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = spec["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
        assert container["image"] == "windlass/ray:1"


def test_the_head_lists_no_ports_because_kuberay_then_adds_the_one_of_the_dashboard() -> None:
    head, worker = pods(rendered())
    assert "ports" not in head["containers"][0]
    assert worker["containers"][0]["ports"] == [{"name": "serve", "containerPort": 8000}]


def test_a_replica_is_ready_when_its_proxy_answers_without_kuberays_initial_delay() -> None:
    head, worker = (spec["containers"][0]["readinessProbe"] for spec in pods(rendered()))
    assert head["httpGet"] == {"path": "/api/healthz", "port": 52365}
    assert worker["httpGet"] == {"path": "/-/healthz", "port": 8000}
    assert not any("initialDelaySeconds" in probe for probe in (head, worker))


def test_pods_get_the_secret_of_their_service_and_secrets_are_no_arguments() -> None:
    service = rendered()
    for spec in pods(service):
        [secret] = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
        assert secret["secretName"] == "ep-live-1-credentials"
        names = {item["name"] for item in spec["containers"][0]["env"]}
        assert {CREDENTIALS_VARIABLE, CACHE_VARIABLE, TRANSFER_URL_VARIABLE, TRANSFER_TOKEN_VARIABLE} <= names
        assert not any(name.startswith("RAY_") for name in names), "the admission policies refuse them"
    [application] = serve_config(service)["applications"]
    assert set(application["args"]) == {"app", "threads"}


def test_only_replicas_request_gpus_in_the_pools_resource() -> None:
    head, worker = pods(rendered(WITH_GPU, **RESOURCES))
    assert "amd.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert worker["containers"][0]["resources"]["limits"] == {"cpu": "2500m", "memory": "8Gi", "amd.com/gpu": "1"}
    [application] = serve_config(rendered(WITH_GPU, **RESOURCES))["applications"]
    assert (application["args"]["gpus"], application["args"]["threads"]) == (1, 2)


def test_a_version_keeps_its_pods_while_another_one_moves_to_gpus() -> None:
    before, after = model_endpoint.objects(
        desired_objects.endpoint(desired_objects.served_version(2), WITH_GPU), PROJECT, POOLS
    )
    assert "kueue.x-k8s.io/queue-name" not in before["metadata"]["labels"]
    assert after["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "a100"
    gpus = ["amd.com/gpu" in pods(each)[1]["containers"][0]["resources"]["limits"] for each in (before, after)]
    assert gpus == [False, True]
    arguments = [serve_config(each)["applications"][0]["args"].get("gpus") for each in (before, after)]
    assert arguments == [None, 1]


def test_a_pod_has_one_replica_and_fields_of_kueue_are_not_set() -> None:
    service = rendered(desired_objects.served_version(replicas=3))
    cluster = service["spec"]["rayClusterConfig"]
    [group] = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert group["rayStartParams"]["num-cpus"] == "1"
    [application] = serve_config(service)["applications"]
    assert application["deployments"] == [{"name": DEPLOYMENT_NAME, "num_replicas": 3}]
    assert cluster["enableInTreeAutoscaling"] is False
    assert cluster["authOptions"] == {"mode": "token"}
    assert "suspend" not in cluster
    for spec in pods(service):
        assert not {"nodeSelector", "tolerations", "affinity", "hostNetwork"} & set(spec)


def test_another_number_of_replicas_restarts_none() -> None:
    """Serve restarts the replicas of an application whose arguments change."""
    one, two = (serve_config(rendered(desired_objects.served_version(replicas=count))) for count in (1, 2))
    assert one["applications"][0]["args"] == two["applications"][0]["args"]
    assert one != two


def test_pods_that_drain_stay_without_a_replica_and_are_then_deleted_by_name() -> None:
    """KubeRay deletes any of the pods when their number is reduced, and Serve stops any of the replicas."""
    draining = rendered(desired_objects.served_version(replicas=1, draining=2))
    [group] = draining["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert "scaleStrategy" not in group
    [application] = serve_config(draining)["applications"]
    assert application["deployments"][0]["num_replicas"] == 1
    removed = rendered(desired_objects.served_version(replicas=1, removedPods=["a", "b"]))
    [group] = removed["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert (group["replicas"], group["scaleStrategy"]) == (1, {"workersToDelete": ["a", "b"]})


def test_a_version_that_is_scaled_to_zero_has_no_service_and_the_endpoint_is_ready() -> None:
    idle = desired_objects.served_version(1, replicas=0)
    endpoint = desired_objects.endpoint(idle, desired_objects.served_version(2))
    [service] = model_endpoint.objects(endpoint, PROJECT, POOLS)
    assert service["metadata"]["name"] == "ep-live-2"
    status = decide.status(desired_objects.endpoint(idle), None, (), [], datetime(2026, 11, 22, tzinfo=UTC))
    [ready] = status["conditions"]
    assert (ready["status"], ready["reason"], status["readyReplicas"]) == ("True", "ScaledToZero", 0)


def test_each_version_is_a_service_of_its_own() -> None:
    versions = [desired_objects.served_version(1), desired_objects.served_version(2, image="windlass/ray:2")]
    services = model_endpoint.objects(desired_objects.endpoint(*versions), PROJECT, POOLS)
    assert [service["metadata"]["name"] for service in services] == ["ep-live-1", "ep-live-2"]
    configs = [serve_config(service)["applications"] for service in services]
    assert [[app["route_prefix"] for app in config] for config in configs] == [["/ep-1-mv-1"], ["/ep-1-mv-2"]]
    assert {app["import_path"] for config in configs for app in config} == {APPLICATION}
    assert [pods(service)[0]["containers"][0]["image"] for service in services] == ["windlass/ray:1", "windlass/ray:2"]


@given(st.text(max_size=60))
def test_tenant_input_is_escaped(uri: str) -> None:
    """A location with quotes, newlines or YAML in it stays one string in Ray Serve's configuration."""
    [application] = serve_config(rendered(desired_objects.served_version(uri=uri)))["applications"]
    assert application["args"]["app"]["artifact_uri"] == uri
    assert application["import_path"] == APPLICATION


def reason(*versions: Object, space: str = "wl-search", **spec: Any) -> str:
    endpoint = desired_objects.endpoint(*versions, space=space, **spec)
    home = decide.project_for(endpoint, {"search": PROJECT})
    found = decide.blocker(endpoint, home, POOLS)
    return found.reason if found else ""


def test_blocker_has_its_reason() -> None:
    assert reason(WITH_GPU) == ""
    assert reason(space="default") == "NoProject"
    assert reason(space="wl-other") == "NoProject"
    assert reason(desired_objects.served_version(gpus=1, pool="h100")) == "NoQuota"
    assert reason(desired_objects.served_version(replicas=11)) == "TooManyReplicas"
    assert reason(desired_objects.served_version(gpus=1, pool="a100", replicas=5)) == "ExceedsMaxQuota"
    several = [desired_objects.served_version(number, gpus=1, pool="a100", replicas=number) for number in (2, 3)]
    assert reason(*several) == "ExceedsMaxQuota"
    assert reason(desired_objects.served_version(gpus=1, pool="a100", replicas=3, draining=2)) == "ExceedsMaxQuota"


def test_the_status_counts_the_replicas_of_all_services_and_names_those_that_are_not_ready() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    endpoint = desired_objects.endpoint(desired_objects.served_version(1), desired_objects.served_version(2))
    first, second = (ray_service(f"ep-live-{number}", replicas=number) for number in (1, 2))
    status = decide.status(endpoint, None, (), [first, second], now)
    assert (status["readyReplicas"], status["conditions"][0]["reason"]) == (3, "Serving")
    status = decide.status(endpoint, None, (), [first], now)
    assert (status["readyReplicas"], status["conditions"][0]["reason"]) == (1, "Starting")
    assert "ep-live-2 (tickets@2)" in status["conditions"][0]["message"]


def ray_service(name: str, replicas: int) -> Object:
    status = {"conditions": [{"type": "Ready", "status": "True"}], "numServeEndpoints": replicas}
    return {"metadata": {"name": name}, "status": status}


@given(st.integers(-1000, 1000))
def test_a_priority_becomes_the_highest_class_that_is_not_above_it(priority: int) -> None:
    [value] = [value for value in PRIORITY_CLASS_VALUES if class_name_for_value(value) == priority_class_name(priority)]
    assert value <= priority
    assert not any(value < other <= priority for other in PRIORITY_CLASS_VALUES)


@given(st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_priority_classes_preserve_order(one: int, other: int) -> None:
    order = [class_name_for_value(value) for value in PRIORITY_CLASS_VALUES]
    assert (order.index(priority_class_name(one)) - order.index(priority_class_name(other))) * (one - other) >= 0


def test_newest_endpoints_exceed_the_projects_limit() -> None:
    small = desired_objects.project({"pool": "a100", "nominal": 4}, endpoints={"maxEndpoints": 2})
    world = ClusterCache(Store(transform_for_operators), lambda: datetime.now(UTC))
    for name, made, going in (("b", 3, False), ("a", 3, False), ("old", 1, False), ("gone", 0, True)):
        one = stored(name, creationTimestamp=f"2026-11-22T10:00:0{made}Z")
        one["metadata"] |= {"deletionTimestamp": "2026-11-22T11:00:00Z"} if going else {}
        world.store.put(one)
    found = {}
    for name in ("old", "a", "b"):
        plain = desired_objects.endpoint()
        endpoint = plain.model_copy(update={"metadata": plain.metadata.model_copy(update={"name": name})})
        blocker = decide.blocker(endpoint, small, POOLS, world.older_endpoints(endpoint))
        found[name] = blocker.reason if blocker else ""
    assert found == {"old": "", "a": "", "b": "TooManyEndpoints"}


def test_created_or_deleted_endpoint_enqueues_the_others_of_its_project() -> None:
    world = ClusterCache(Store(transform_for_operators), lambda: datetime.now(UTC))
    one, other = stored("one"), stored("other")
    for each in (one, other):
        world.store.put(each)
    keys = {Key(ENDPOINT, name, "wl-search") for name in ("one", "other")}
    ref, later = Ref.of(one), stored("one", generation=2)
    assert world.affected_keys(Change(ref, None, one)) == world.affected_keys(Change(ref, one, None)) == keys
    assert world.affected_keys(Change(ref, one, later)) == {Key(ENDPOINT, "one", "wl-search")}
    assert world.affected_keys(Change(ref, one, stored("one", generation=2, deletionTimestamp="now"))) == keys


def stored(name: str, **more: Any) -> Object:
    metadata = {"name": name, "namespace": "wl-search", "uid": name, "resourceVersion": "1", **more}
    return {"apiVersion": ENDPOINT.api_version, "kind": ENDPOINT.kind, "metadata": metadata}
