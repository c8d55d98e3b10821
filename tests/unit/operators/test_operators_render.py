"""Rendered objects of Project and GPUPool: Kueue objects and namespace isolation."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.names import MANAGED_BY, PROJECT_LABEL, QUEUES_ANNOTATION
from windlass.kube.resources import GPUPool, Project
from windlass_operators.render import Object, gpu_pool, namespace, queues
from windlass_operators.render.network import PlatformNetwork


def pool(name: str = "a100", **spec: Any) -> GPUPool:
    labels = {"nodeLabels": {"windlass.dev/pool": name}}
    return GPUPool.model_validate({"metadata": {"name": name}, "spec": labels | spec})


def project(*quotas: dict[str, Any], name: str = "search", **spec: Any) -> Project:
    metadata = {"name": name, "uid": "11111111-2222"}
    return Project.model_validate({"metadata": metadata, "spec": {"quotas": list(quotas), **spec}})


POOLS = {"a100": pool("a100"), "h100": pool("h100")}


def only(objects: list[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def everything(desired_project: Project, pools: Mapping[str, GPUPool]) -> list[Object]:
    return [*namespace.objects(desired_project, pools, PlatformNetwork()), *queues.objects(desired_project, pools)]


def test_a_pool_becomes_a_flavor_whose_pods_tolerate_its_taints() -> None:
    [flavor, host] = gpu_pool.objects(pool(taints=[{"key": "nvidia.com/gpu", "value": "a100"}, {"key": "spot"}]))
    assert flavor["spec"]["nodeLabels"] == {"windlass.dev/pool": "a100"}
    assert flavor["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "a100", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert "topologyName" not in flavor["spec"]
    assert host["spec"] == {}, "cpu and memory bind a pod to no node"


def test_each_pool_has_its_own_strict_fifo_queue_with_the_quota() -> None:
    desired_project = project(
        {"pool": "a100", "nominal": 8, "borrowingLimit": 4, "lendingLimit": 6},
        {"pool": "h100", "nominal": 2},
        cohort="lab",
    )
    found = queues.objects(desired_project, POOLS)
    assert [one["kind"] for one in found] == ["Cohort", "ClusterQueue", "LocalQueue", "ClusterQueue", "LocalQueue"]
    first, second = only(found, "ClusterQueue")
    assert first["metadata"]["name"] == "search.a100"
    group, host = first["spec"]["resourceGroups"]
    assert host["coveredResources"] == ["cpu", "memory"]
    [uncounted] = host["flavors"]
    assert uncounted["name"] == "a100.host"
    assert all((one["lendingLimit"], one["borrowingLimit"]) == ("0", "0") for one in uncounted["resources"])
    assert group["coveredResources"] == ["nvidia.com/gpu"]
    resource = {"name": "nvidia.com/gpu", "nominalQuota": 8, "borrowingLimit": 4, "lendingLimit": 6}
    assert group["flavors"] == [{"name": "a100", "resources": [resource]}]
    assert first["spec"]["queueingStrategy"] == "StrictFIFO"
    assert first["spec"]["preemption"] == {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}
    assert {first["spec"]["cohortName"], second["spec"]["cohortName"]} == {"windlass-lab"}
    local = only(found, "LocalQueue")[1]
    assert (local["metadata"]["namespace"], local["metadata"]["name"]) == ("wl-search", "h100")
    assert local["spec"]["clusterQueue"] == "search.h100"


def test_without_a_cohort_nothing_is_borrowed_or_lent() -> None:
    found = queues.objects(project({"pool": "a100", "nominal": 8}), POOLS)
    [queue] = only(found, "ClusterQueue")
    assert only(found, "Cohort") == []
    assert "cohortName" not in queue["spec"]
    assert queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"] == [
        {"name": "nvidia.com/gpu", "nominalQuota": 8}
    ]


def test_queue_admits_only_its_own_namespace() -> None:
    [queue] = only(queues.objects(project({"pool": "a100", "nominal": 1}), POOLS), "ClusterQueue")
    [space] = only(namespace.objects(project(), POOLS, PlatformNetwork()), "Namespace")
    wanted = queue["spec"]["namespaceSelector"]["matchLabels"]
    assert wanted.items() <= space["metadata"]["labels"].items()
    assert wanted == {PROJECT_LABEL: "search"}


def test_quota_of_a_missing_pool_has_no_queue() -> None:
    assert queues.objects(project({"pool": "b200", "nominal": 1}), POOLS) == []


def test_the_namespace_enforces_the_restricted_pod_security() -> None:
    [space] = only(namespace.objects(project(), POOLS, PlatformNetwork()), "Namespace")
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert space["metadata"]["labels"]["windlass.dev/project-uid"] == "11111111-2222"


def test_namespace_annotation_lists_queues_with_their_resource() -> None:
    desired_project = project(
        {"pool": "a100", "nominal": 1}, {"pool": "mi300", "nominal": 1}, {"pool": "missing", "nominal": 1}
    )
    space = namespace.namespace(
        desired_project, {"a100": pool("a100"), "mi300": pool("mi300", resourceName="amd.com/gpu")}
    )
    assert space["metadata"]["annotations"][QUEUES_ANNOTATION] == "a100=nvidia.com/gpu,mi300=amd.com/gpu"


def test_no_account_of_the_namespace_gets_a_token() -> None:
    found = only(namespace.objects(project(), POOLS, PlatformNetwork()), "ServiceAccount")
    assert {one["metadata"]["name"] for one in found} == {"default", "windlass-trainer", "windlass-server"}
    assert all(one["automountServiceAccountToken"] is False for one in found)


def test_members_are_bound_to_roles_that_only_read() -> None:
    members = [
        {"name": "ada", "role": "editor"},
        {"kind": "Group", "name": "interns", "role": "viewer"},
    ]
    found = namespace.objects(project(members=members), POOLS, PlatformNetwork())
    bound = {one["metadata"]["name"]: one["subjects"] for one in only(found, "RoleBinding")}
    assert [subject["name"] for subject in bound["windlass-editor"]] == ["ada"]
    assert [(subject["kind"], subject["name"]) for subject in bound["windlass-viewer"]] == [("Group", "interns")]
    assert bound["windlass-admin"] == []
    for role in only(found, "Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            assert set(rule["verbs"]) <= {"get", "list", "watch"}
            assert "secrets" not in rule["resources"]


NETWORK = PlatformNetwork("platform", "kuberay", [{"ipBlock": {"cidr": "10.1.2.0/24"}}], 9000)


def ports_by_peer(rules: list[Object], direction: str) -> list[tuple[Any, list[int]]]:
    return [
        (peer, [port["port"] for port in rule.get("ports", [])]) for rule in rules for peer in rule.get(direction, [{}])
    ]


def space_of(peer: Object) -> str:
    return str(peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", ""))


def test_a_projects_network_is_denied_except_for_ray_dns_the_internal_port_and_the_object_store() -> None:
    deny, ray = only(namespace.objects(project(), POOLS, NETWORK), "NetworkPolicy")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}
    egress = ports_by_peer(ray["spec"]["egress"], "to")
    assert [(space_of(peer), ports) for peer, ports in egress] == [
        ("", []),
        ("platform", [8742]),
        ("kube-system", [53, 53]),
        ("", [9000]),
    ]
    assert egress[0][0] == {"podSelector": {}}
    assert egress[1][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "api"
    assert egress[3][0] == {"ipBlock": {"cidr": "10.1.2.0/24"}}


def test_only_kuberay_reaches_the_dashboard_of_a_project() -> None:
    _, ray = only(namespace.objects(project(), POOLS, NETWORK), "NetworkPolicy")
    ingress = ports_by_peer(ray["spec"]["ingress"], "from")
    assert ingress[0] == ({"podSelector": {}}, [])
    assert [(space_of(peer), ports) for peer, ports in ingress[1:]] == [
        ("platform", [8000]),
        ("kuberay", [8000, 8265, 52365]),
    ]
    assert ingress[2][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "kuberay-operator"}


def test_the_worker_and_the_runner_are_bound_in_the_namespace_of_the_project() -> None:
    found = [
        (one["metadata"]["namespace"], one["roleRef"]["name"], one["subjects"])
        for one in only(namespace.objects(project(), POOLS, NETWORK), "RoleBinding")
        if one["roleRef"]["kind"] == "ClusterRole"
    ]
    assert found == [
        (
            "wl-search",
            f"windlass-project-{name}",
            [{"kind": "ServiceAccount", "name": account, "namespace": "platform"}],
        )
        for name, account in (("worker", "windlass-worker"), ("runner", "windlass-runner"))
    ]


def test_the_runner_of_another_namespace_may_create_ray_jobs_too() -> None:
    network = PlatformNetwork(namespace="platform", runner_namespace="kubeflow")
    bound = {
        one["roleRef"]["name"]: [subject["namespace"] for subject in one["subjects"]]
        for one in only(namespace.objects(project(), POOLS, network), "RoleBinding")
    }
    assert bound["windlass-project-runner"] == ["kubeflow", "platform"]
    assert bound["windlass-project-worker"] == ["platform"]


@pytest.mark.parametrize(
    ("quotas", "cohort", "hard"),
    [
        ([{"pool": "a100", "nominal": 8, "borrowingLimit": 4}], "lab", "12"),
        ([{"pool": "a100", "nominal": 8}, {"pool": "h100", "nominal": 2}], None, "10"),
        ([], None, "0"),
        ([{"pool": "a100", "nominal": 8}], "lab", None),  # may borrow all that the cohort has
    ],
)
def test_resource_quota_is_nominal_plus_borrowing_limit(
    quotas: list[dict[str, Any]], cohort: str | None, hard: str | None
) -> None:
    desired_project = project(*quotas, **({"cohort": cohort} if cohort else {}))
    [found] = only(namespace.objects(desired_project, POOLS, PlatformNetwork()), "ResourceQuota")
    assert found["spec"]["hard"].get("requests.nvidia.com/gpu") == hard


@given(
    st.lists(
        st.fixed_dictionaries({"pool": st.sampled_from(["a100", "h100", "b200"]), "nominal": st.integers(0, 64)}),
        unique_by=lambda one: one["pool"],
    ),
    st.sampled_from([None, "lab"]),
)
def test_all_objects_have_our_labels_and_unique_names(quotas: list[dict[str, Any]], cohort: str | None) -> None:
    found = everything(project(*quotas, cohort=cohort), POOLS)
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found]
    assert len(keys) == len(set(keys))
    assert all(one["metadata"]["labels"][MANAGED_BY] == "windlass" for one in found)
    assert {one["metadata"].get("namespace") for one in found} <= {None, "wl-search"}
