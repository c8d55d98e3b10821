"""What a Project and a GPUPool become: Kueue's objects, and the walls of a namespace."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.names import MANAGED_BY, PROJECT_LABEL, QUEUES_ANNOTATION
from windlass.kube.resources import GPUPool, Project
from windlass_operators.render import Object, gpu_pool, namespace, queues

SYSTEM = "windlass-system"


def pool(name: str = "a100", **spec: Any) -> GPUPool:
    labels = {"nodeLabels": {"windlass.dev/pool": name}}
    return GPUPool.model_validate({"metadata": {"name": name}, "spec": labels | spec})


def project(*quotas: dict[str, Any], name: str = "search", **spec: Any) -> Project:
    metadata = {"name": name, "uid": "11111111-2222"}
    return Project.model_validate({"metadata": metadata, "spec": {"quotas": list(quotas), **spec}})


POOLS = {"a100": pool("a100"), "h100": pool("h100")}


def only(objects: list[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def everything(wished: Project, pools: Mapping[str, GPUPool]) -> list[Object]:
    return [*namespace.objects(wished, pools, SYSTEM), *queues.objects(wished, pools)]


def test_a_pool_becomes_a_flavor_whose_pods_tolerate_its_taints() -> None:
    [flavor, host] = gpu_pool.objects(pool(taints=[{"key": "nvidia.com/gpu", "value": "a100"}, {"key": "spot"}]))
    assert flavor["spec"]["nodeLabels"] == {"windlass.dev/pool": "a100"}
    assert flavor["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "a100", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert "topologyName" not in flavor["spec"]
    assert host["spec"] == {}, "cpu and memory bind a pod to no node"


def test_a_pool_with_domains_gets_its_topology_first() -> None:
    topology, flavor, _ = gpu_pool.objects(pool(topologyLabels=["block", "rack", "kubernetes.io/hostname"]))
    assert [level["nodeLabel"] for level in topology["spec"]["levels"]] == ["block", "rack", "kubernetes.io/hostname"]
    assert flavor["spec"]["topologyName"] == topology["metadata"]["name"] == "a100"


def test_each_pool_has_a_strict_queue_of_its_own_with_the_quota_in_it() -> None:
    wished = project(
        {"pool": "a100", "nominal": 8, "borrowingLimit": 4, "lendingLimit": 6},
        {"pool": "h100", "nominal": 2},
        cohort="lab",
    )
    found = queues.objects(wished, POOLS)
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


def test_a_queue_takes_work_of_its_own_namespace_alone() -> None:
    [queue] = only(queues.objects(project({"pool": "a100", "nominal": 1}), POOLS), "ClusterQueue")
    [space] = only(namespace.objects(project(), POOLS, SYSTEM), "Namespace")
    wanted = queue["spec"]["namespaceSelector"]["matchLabels"]
    assert wanted.items() <= space["metadata"]["labels"].items()
    assert wanted == {PROJECT_LABEL: "search"}


def test_a_quota_of_a_pool_that_is_not_there_yet_has_no_queue() -> None:
    assert queues.objects(project({"pool": "b200", "nominal": 1}), POOLS) == []


def test_the_namespace_enforces_the_restricted_pod_security() -> None:
    [space] = only(namespace.objects(project(), POOLS, SYSTEM), "Namespace")
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert space["metadata"]["labels"]["windlass.dev/project-uid"] == "11111111-2222"


def test_the_namespace_says_which_queues_there_are_and_what_each_counts() -> None:
    wished = project({"pool": "a100", "nominal": 1}, {"pool": "mi300", "nominal": 1}, {"pool": "missing", "nominal": 1})
    space = namespace.namespace(wished, {"a100": pool("a100"), "mi300": pool("mi300", resourceName="amd.com/gpu")})
    assert space["metadata"]["annotations"][QUEUES_ANNOTATION] == "a100=nvidia.com/gpu,mi300=amd.com/gpu"


def test_no_account_of_the_namespace_gets_a_token() -> None:
    found = only(namespace.objects(project(), POOLS, SYSTEM), "ServiceAccount")
    assert {one["metadata"]["name"] for one in found} == {"default", "windlass-trainer", "windlass-server"}
    assert all(one["automountServiceAccountToken"] is False for one in found)


def test_members_are_bound_to_their_role_and_nobody_may_make_pods_or_ray_jobs() -> None:
    members = [
        {"name": "ada", "role": "editor"},
        {"kind": "Group", "name": "interns", "role": "viewer"},
    ]
    found = namespace.objects(project(members=members), POOLS, SYSTEM)
    bound = {one["metadata"]["name"]: one["subjects"] for one in only(found, "RoleBinding")}
    assert [subject["name"] for subject in bound["windlass-editor"]] == ["ada"]
    assert [(subject["kind"], subject["name"]) for subject in bound["windlass-viewer"]] == [("Group", "interns")]
    assert bound["windlass-owner"] == []
    for role in only(found, "Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            if set(rule["verbs"]) - {"get", "list", "watch"}:
                assert set(rule["resources"]) == {"modelendpoints", "modelendpoints/scale"}
            assert "secrets" not in rule["resources"]


def test_the_network_denies_all_but_ray_dns_and_the_house() -> None:
    found = only(namespace.objects(project(), POOLS, SYSTEM), "NetworkPolicy")
    deny, ray = found
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}
    peers = [peer for rule in ray["spec"]["egress"] for peer in rule["to"]]
    assert all("ipBlock" not in peer for peer in peers)
    spaces = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for peer in peers
        if "namespaceSelector" in peer
    }
    assert spaces == {SYSTEM, "kube-system"}


@pytest.mark.parametrize(
    ("quotas", "cohort", "hard"),
    [
        ([{"pool": "a100", "nominal": 8, "borrowingLimit": 4}], "lab", "12"),
        ([{"pool": "a100", "nominal": 8}, {"pool": "h100", "nominal": 2}], None, "10"),
        ([], None, "0"),
        ([{"pool": "a100", "nominal": 8}], "lab", None),  # may borrow all that the cohort has
    ],
)
def test_the_backstop_is_nominal_and_permitted_borrowing(
    quotas: list[dict[str, Any]], cohort: str | None, hard: str | None
) -> None:
    wished = project(*quotas, **({"cohort": cohort} if cohort else {}))
    [found] = only(namespace.objects(wished, POOLS, SYSTEM), "ResourceQuota")
    assert found["spec"]["hard"].get("requests.nvidia.com/gpu") == hard


@given(
    st.lists(
        st.fixed_dictionaries({"pool": st.sampled_from(["a100", "h100", "b200"]), "nominal": st.integers(0, 64)}),
        unique_by=lambda one: one["pool"],
    ),
    st.sampled_from([None, "lab"]),
)
def test_everything_is_ours_by_label_and_named_once(quotas: list[dict[str, Any]], cohort: str | None) -> None:
    found = everything(project(*quotas, cohort=cohort), POOLS)
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found]
    assert len(keys) == len(set(keys))
    assert all(one["metadata"]["labels"][MANAGED_BY] == "windlass" for one in found)
    assert {one["metadata"].get("namespace") for one in found} <= {None, "wl-search"}
