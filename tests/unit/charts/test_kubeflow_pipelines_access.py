"""Access to and by the chart of the Kubeflow Pipelines server: tokens, roles, network policies."""

from typing import Any

import pytest
from tests.charts import rendering
from tests.charts.pipelines import NAMESPACE, network_policies, render_pipelines
from tests.charts.rendering import only, pod_templates

Json = dict[str, Any]


def test_only_pods_with_permissions_get_a_token() -> None:
    objects = render_pipelines()
    bound = {one["subjects"][0]["name"] for one in objects if one["kind"] == "RoleBinding"}
    assert bound == {"ml-pipeline", "ml-pipeline-persistenceagent", "workflow-controller", "pipeline-runner"}
    for name, pod in pod_templates(objects).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is (spec["serviceAccountName"] in bound), name
        assert only(objects, "ServiceAccount", spec["serviceAccountName"])["automountServiceAccountToken"] is False
    # Argo leaves the pods of runs to the setting of their account.
    assert only(objects, "ServiceAccount", "pipeline-runner")["automountServiceAccountToken"] is True


def test_no_role_has_a_wildcard_and_none_holds_in_the_whole_cluster() -> None:
    objects = render_pipelines()
    assert not {"ClusterRole", "ClusterRoleBinding"} & {one["kind"] for one in objects}
    roles = [one for one in objects if one["kind"] == "Role"]
    assert len(roles) == 4
    for role in roles:
        for rule in role["rules"]:
            for values in (rule["apiGroups"], rule["resources"], rule["verbs"]):
                assert "*" not in values, role["metadata"]["name"]
            assert not {"bind", "escalate", "impersonate"} & set(rule["verbs"])


@pytest.mark.parametrize("secret", ["kubeflow-pipelines-object-store", "own"])
def test_secrets_are_read_by_name_and_never_written(secret: str) -> None:
    values = {"objectStore": {"existingSecret": secret}} if secret == "own" else {}
    read = {
        one["metadata"]["name"]: (rule["resourceNames"], rule["verbs"])
        for one in render_pipelines(values)
        if one["kind"] == "Role"
        for rule in one["rules"]
        if "secrets" in rule["resources"]
    }
    assert read == {
        "workflow-controller": (["argo-workflows-agent-ca-certificates"], ["get"]),
        "pipeline-runner": ([secret], ["get"]),
    }


def test_the_pods_of_runs_create_only_the_results_of_their_tasks() -> None:
    rules = only(render_pipelines(), "Role", "pipeline-runner")["rules"]
    written = {(each, verb) for rule in rules for each in rule["resources"] for verb in rule["verbs"]} - {
        (each, verb) for rule in rules for each in rule["resources"] for verb in ("get", "list")
    }
    assert written == {("workflowtaskresults", "create"), ("workflowtaskresults", "patch")}


def test_the_namespace_denies_by_default_and_every_pod_has_one_policy() -> None:
    found = network_policies()
    assert found["deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, pod in pod_templates(render_pipelines()).items():
        labels = pod["metadata"]["labels"].items()
        chosen = [
            policy
            for policy, spec in found.items()
            if (wanted := spec["podSelector"].get("matchLabels")) and wanted.items() <= labels
        ]
        assert chosen == [name.split()[1]]
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in found.values())
    assert network_policies({"networkPolicy": {"enabled": False}}) == {}


def test_windlass_and_the_api_server_permit_each_other() -> None:
    """The worker, preflight and uninstallation of the chart windlass, and nobody else outside of the namespace."""
    host = f"http://ml-pipeline.{NAMESPACE}.svc:8888"
    windlass = rendering.render({"pipelines": {"backend": "kfp", "kfp": {"host": host}}})
    [peer] = network_policies()["ml-pipeline"]["ingress"][0]["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": rendering.SYSTEM}}
    [expression] = peer["podSelector"]["matchExpressions"]
    admitted = set()
    for name, pod in pod_templates(windlass).items():
        labels = pod["metadata"]["labels"]
        if labels[expression["key"]] in expression["values"]:
            assert peer["podSelector"]["matchLabels"].items() <= labels.items()
            admitted.add(name.split()[1])
    policies = {one["metadata"]["name"]: one["spec"] for one in windlass if one["kind"] == "NetworkPolicy"}
    to = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}}
    expected = {"to": [to], "ports": [{"protocol": "TCP", "port": 8888}]}
    assert admitted == {name for name, spec in policies.items() if expected in spec.get("egress", ())}
    assert len(admitted) == 3


def test_who_reaches_the_api_server() -> None:
    peers = [{"namespaceSelector": {"matchLabels": {"team": "data"}}}]
    rest, agent, runs = network_policies({"networkPolicy": {"apiFrom": peers}})["ml-pipeline"]["ingress"]
    assert rest["from"][1:] == peers
    assert [each["port"] for each in rest["ports"]] == [8888]
    labels = agent["from"][0]["podSelector"]["matchLabels"]
    assert labels["app.kubernetes.io/component"] == "persistence-agent"
    # The API that manages runs has another port.
    assert [each["port"] for each in runs["ports"]] == [8887]
    assert runs["from"] == [{"podSelector": network_policies()["runs"]["podSelector"]}]


def test_the_database_and_the_metadata_server_serve_only_their_clients() -> None:
    found = network_policies()
    [rule] = found["mysql"]["ingress"]
    components = {each["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in rule["from"]}
    assert components == {"api-server", "metadata"}
    assert "egress" not in found["mysql"]
    [rule] = found["metadata-grpc-service"]["ingress"]
    assert rule["from"] == [{"podSelector": found["runs"]["podSelector"]}]
    for name in ("ml-pipeline-persistenceagent", "workflow-controller", "runs"):
        assert "ingress" not in found[name]


def test_runs_reach_windlass_and_what_the_values_add() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.9/32"}}], "ports": [{"protocol": "TCP", "port": 9000}]}
    store = [{"ipBlock": {"cidr": "10.0.0.8/32"}}]
    values = {"networkPolicy": {"runEgress": [rule], "objectStoreTo": store, "objectStorePort": 9001}}
    egress = network_policies(values)["runs"]["egress"]
    assert rule in egress
    assert {"to": store, "ports": [{"protocol": "TCP", "port": 9001}]} in egress
    [windlass] = [each for each in egress if each["ports"][0]["port"] == 8742]
    labels = pod_templates(rendering.render())["Deployment windlass-api"]["metadata"]["labels"]
    assert windlass["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    kubernetes = {"networkPolicy": {"kubernetesApiPorts": [7443], "kubernetesApiTo": store}}
    for name in ("ml-pipeline", "ml-pipeline-persistenceagent", "workflow-controller", "runs"):
        expected = {"to": store, "ports": [{"protocol": "TCP", "port": 7443}]}
        assert expected in network_policies(kubernetes)[name]["egress"], name
