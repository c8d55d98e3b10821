"""What the chart permits: RBAC, and the network of the release namespace."""

from typing import Any

from tests.charts.rendering import is_hook, only, render

from windlass.kube.workloads import WORKER_DEPLOYMENT

Json = dict[str, Any]
WRITING = {"create", "update", "patch", "delete", "deletecollection"}


def rules() -> list[tuple[str, Json]]:
    roles = [one for one in render() if one["kind"] in {"Role", "ClusterRole"}]
    return [(f"{one['kind']} {one['metadata']['name']}", rule) for one in roles for rule in one["rules"]]


def test_no_role_has_a_wildcard_or_may_escalate() -> None:
    assert len(rules()) > 30
    for name, rule in rules():
        for values in (rule["apiGroups"], rule["resources"], rule["verbs"]):
            assert "*" not in values, name
        assert not {"escalate", "impersonate"} & set(rule["verbs"]), name
        if "bind" in rule["verbs"]:
            assert rule["resourceNames"] == ["windlass-project-worker", "windlass-project-runner"]


def test_no_role_reads_secrets_and_none_writes_them_in_the_whole_cluster() -> None:
    bound = {one["roleRef"]["name"] for one in render() if one["kind"] == "ClusterRoleBinding"}
    for name, rule in rules():
        if "secrets" in rule["resources"]:
            assert not {"get", "list", "watch"} & set(rule["verbs"]), name
            assert name.split()[1] not in bound or name.startswith("Role "), name


def test_only_the_operators_write_in_the_whole_cluster_except_quotas() -> None:
    """What exists only while Helm installs, tests or uninstalls is not meant."""
    bindings = [one for one in render() if one["kind"] == "ClusterRoleBinding" and not is_hook(one)]
    bound = {one["roleRef"]["name"] for one in bindings} - {"windlass-operators"}
    written = {
        (name.split()[1], resource)
        for name, rule in rules()
        if name.startswith("ClusterRole ") and name.split()[1] in bound and WRITING & set(rule["verbs"])
        for resource in rule["resources"]
    }
    assert written == {("windlass-api", "projects"), ("windlass-worker", "projects")}


def test_what_ends_the_workloads_may_only_delete_them_and_stop_the_worker() -> None:
    roles = [one for one in render() if "Role" in one["kind"] and one["metadata"]["name"] == "windlass-uninstall"]
    assert {one["kind"] for one in roles} == {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    assert {one["metadata"]["annotations"]["helm.sh/hook"] for one in roles} == {"pre-delete"}
    rules = [rule for one in roles for rule in one.get("rules", ())]
    written = {(rule["resources"][0], verb) for rule in rules for verb in set(rule["verbs"]) & WRITING}
    deleted = ("rayjobs", "modelendpoints", "jobs", "pods", "secrets")
    # A Job is suspended before it is deleted.
    assert written == {*((each, "delete") for each in deleted), ("jobs", "patch"), ("deployments", "patch")}
    [stops] = [rule for rule in rules if rule["resources"] == ["deployments"]]
    assert stops["resourceNames"] == [WORKER_DEPLOYMENT]


def policies() -> dict[str, Json]:
    return {one["metadata"]["name"]: one["spec"] for one in render() if one["kind"] == "NetworkPolicy"}


def test_the_namespace_denies_by_default_and_every_component_has_a_policy() -> None:
    found = policies()
    assert found["windlass-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for one in render():
        if one["kind"] == "Deployment":
            labels = one["spec"]["template"]["metadata"]["labels"].items()
            chosen = [
                name
                for name, spec in found.items()
                if (wanted := spec["podSelector"].get("matchLabels")) and wanted.items() <= labels
            ]
            assert chosen == [one["metadata"]["name"]]


def test_pods_of_projects_and_tasks_reach_only_the_internal_port() -> None:
    public, internal = policies()["windlass-api"]["ingress"]
    assert public == {"ports": [{"protocol": "TCP", "port": 8741}]}
    assert internal["ports"] == [{"protocol": "TCP", "port": 8742}]
    keys = [selector["matchExpressions"][0]["key"] for peer in internal["from"] for selector in peer.values()]
    assert keys == ["windlass.dev/task", "windlass.dev/project"]
    tasks = policies()["windlass-tasks"]["egress"]
    assert [port["port"] for rule in tasks for port in rule["ports"]] == [53, 53, 443, 8742]
    assert policies()["windlass-runs"]["egress"] == [
        {"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]}
    ]


def test_peers_of_the_values_restrict_the_policies() -> None:
    peers = [{"ipBlock": {"cidr": "10.0.0.0/24"}}]
    values = {
        "apiFrom": peers,
        "databaseTo": peers,
        "databasePort": 6432,
        "objectStoreTo": peers,
        "kubernetesApiTo": peers,
    }
    objects = render({"networkPolicy": values})
    spec = only(objects, "NetworkPolicy", "windlass-api")["spec"]
    assert peers[0] in spec["ingress"][0]["from"]
    by_port = {rule["ports"][0]["port"]: rule.get("to") for rule in spec["egress"]}
    assert by_port[6432] == by_port[443] == peers
    operators = only(objects, "Deployment", "windlass-operators")["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each["value"] for each in operators["env"]}
    assert variables["WINDLASS_OPERATORS_OBJECT_STORE_PEERS"] == '[{"ipBlock":{"cidr":"10.0.0.0/24"}}]'
    assert [one for one in render({"networkPolicy": {"enabled": False}}) if one["kind"] == "NetworkPolicy"] == []
