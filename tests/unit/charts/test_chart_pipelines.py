"""The chart with pipelines on a Kubeflow Pipelines server."""

from typing import Any

import pytest
from tests.charts.rendering import SYSTEM, only, pod_templates, render

HOST = "http://ml-pipeline.kubeflow.svc:8888"


def values(**changes: Any) -> dict[str, Any]:
    return {"pipelines": {"backend": "kfp", "kfp": {"host": HOST, **changes}}}


def environment(objects: list[dict[str, Any]], owner: str) -> dict[str, Any]:
    [container] = pod_templates(objects)[owner]["spec"]["containers"]
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def test_by_default_nothing_refers_to_kubeflow() -> None:
    assert "kfp" not in str(render()).lower()
    assert "kubeflow" not in str(render()).lower()


def test_the_worker_gets_the_server(objects: list[dict[str, Any]]) -> None:
    owner = next(name for name in pod_templates(objects) if "windlass-worker" in name)
    found = environment(objects, owner)
    assert found["WINDLASS_PIPELINES_BACKEND"] == "kfp"
    assert found["WINDLASS_PIPELINES_KFP_HOST"] == HOST
    assert "WINDLASS_PIPELINES_KFP_TOKEN_FILE" not in found


@pytest.fixture
def objects() -> list[dict[str, Any]]:
    return render(values())


def test_the_account_of_runs_is_trusted_by_its_namespace(objects: list[dict[str, Any]]) -> None:
    assert only(objects, "ServiceAccount", "windlass-worker")["metadata"]["namespace"] == SYSTEM
    accounts = [each for each in objects if each["kind"] == "ServiceAccount"]
    assert ("kubeflow", "windlass-runner") in {
        (each["metadata"]["namespace"], each["metadata"]["name"]) for each in accounts
    }
    policy = only(objects, "ValidatingAdmissionPolicy", "windlass-ray")
    assert "'system:serviceaccount:kubeflow:windlass-runner'" in str(policy)
    owner = next(name for name in pod_templates(objects) if "windlass-operators" in name)
    assert environment(objects, owner)["WINDLASS_OPERATORS_RUNNER_NAMESPACE"] == "kubeflow"


def test_the_pods_of_runs_get_the_token_of_their_account(objects: list[dict[str, Any]]) -> None:
    """Argo sets nothing in the pod, and both the step and KFP's launcher call the API server."""
    [account] = [
        each for each in objects if each["kind"] == "ServiceAccount" and each["metadata"]["namespace"] == "kubeflow"
    ]
    assert account.get("automountServiceAccountToken", True) is True


def test_the_worker_may_write_the_secrets_of_runs_and_not_read_them(objects: list[dict[str, Any]]) -> None:
    role = only(objects, "Role", "windlass-worker-runs")
    assert role["metadata"]["namespace"] == "kubeflow"
    [secrets] = [rule for rule in role["rules"] if rule["resources"] == ["secrets"]]
    assert secrets["verbs"] == ["create", "delete"]


def test_network_policies_open_both_directions(objects: list[dict[str, Any]]) -> None:
    worker = only(objects, "NetworkPolicy", "windlass-worker")["spec"]["egress"]
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}}
    assert {"to": [selector], "ports": [{"protocol": "TCP", "port": 8888}]} in worker
    api = only(objects, "NetworkPolicy", "windlass-api")["spec"]["ingress"]
    pods = {"podSelector": {"matchExpressions": [{"key": "pipeline/runid", "operator": "Exists"}]}}
    assert selector | pods in api[1]["from"]


def test_a_multi_user_server_gets_a_token_with_its_audience() -> None:
    objects = render(values(multiUser=True))
    owner = next(name for name in pod_templates(objects) if "windlass-worker" in name)
    volumes = pod_templates(objects)[owner]["spec"]["volumes"]
    [token] = [volume for volume in volumes if volume["name"] == "pipelines-token"]
    assert token["projected"]["sources"][0]["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"
    mounted = environment(objects, owner)["WINDLASS_PIPELINES_KFP_TOKEN_FILE"]
    assert mounted == "/var/run/secrets/kubeflow/pipelines/token"
    assert not [each for each in objects if each["metadata"].get("namespace") == "kubeflow"]


def policy(objects: list[dict[str, Any]], name: str) -> dict[str, Any]:
    spec: dict[str, Any] = only(objects, "ValidatingAdmissionPolicy", name)["spec"]
    return spec


def test_the_policies_trust_the_account_of_steps_in_the_namespace_of_each_project() -> None:
    objects = render(values(multiUser=True, serviceAccount="steps"))
    for name in ("windlass-ray", "windlass-jobs"):
        [trusted] = [each for each in policy(objects, name)["variables"] if each["name"] == "windlass"]
        accounts, _, of_project = trusted["expression"].partition(" || ")
        assert of_project == "variables.user == 'system:serviceaccount:' + request.namespace + ':steps'"
        assert "steps" not in accounts
        assert "kubeflow" not in accounts


def test_the_workflow_controller_creates_pods_of_steps_that_have_another_policy() -> None:
    objects = render(
        values(
            host="http://ml-pipeline.pipes.svc:8888",
            multiUser=True,
            serviceAccount="steps",
            namespace="pipes",
            workflowController="workflows",
        )
    )
    [no_step] = policy(objects, "windlass-pods")["matchConditions"]
    [step] = policy(objects, "windlass-steps")["matchConditions"]
    assert no_step["expression"] == f"!({step['expression']})"
    assert step["expression"].startswith("request.userInfo.username == 'system:serviceaccount:pipes:workflows' && ")
    assert "o.kind == 'Workflow'" in step["expression"]
    account, *_ = policy(objects, "windlass-steps")["validations"]
    assert account["expression"] == "object.spec.?serviceAccountName.orValue('default') == 'steps'"
    binding = only(objects, "ValidatingAdmissionPolicyBinding", "windlass-steps")
    assert binding["spec"] == {"policyName": "windlass-steps", "validationActions": ["Deny", "Audit"]}
    changes = policy(objects, "windlass-pod-changes")
    [labels_step] = [each for each in changes["variables"] if each["name"] == "labels_step"]
    assert labels_step["expression"].startswith(f"{step['expression']} && ")
    assert "variables.labels_step" in changes["validations"][0]["expression"]


@pytest.mark.parametrize("chosen", [{}, values()], ids=["pods", "single-user"])
def test_without_a_multi_user_server_the_policies_know_no_steps(chosen: dict[str, Any]) -> None:
    objects = render(chosen)
    assert "argoproj" not in str([each for each in objects if each["kind"] == "ValidatingAdmissionPolicy"])
    assert "request.namespace +" not in str(policy(objects, "windlass-ray"))
    assert not [each for each in objects if each["metadata"]["name"] == "windlass-steps"]


def test_the_preflight_reaches_the_server(objects: list[dict[str, Any]]) -> None:
    owner = next(name for name in pod_templates(objects) if "windlass-preflight" in name)
    assert environment(objects, owner)["WINDLASS_PIPELINES_KFP_HOST"] == HOST
    policy = only(objects, "NetworkPolicy", "windlass-preflight")["spec"]["egress"]
    assert policy[-1]["ports"] == [{"protocol": "TCP", "port": 8888}]


def test_the_uninstallation_ends_runs_on_the_server(objects: list[dict[str, Any]]) -> None:
    owner = next(name for name in pod_templates(objects) if "windlass-uninstall" in name)
    assert environment(objects, owner)["WINDLASS_PIPELINES_KFP_HOST"] == HOST
    assert only(objects, "NetworkPolicy", "windlass-uninstall")["spec"]["egress"][-1]["ports"][0]["port"] == 8888
    rules = {
        (role["metadata"]["namespace"], resource): rule["verbs"]
        for role in objects
        if (role["kind"], role["metadata"]["name"]) == ("Role", "windlass-uninstall")
        for rule in role["rules"]
        for resource in rule["resources"]
    }
    assert rules["kubeflow", "secrets"] == ["delete"]
    assert rules["kubeflow", "workflows"] == ["list", "delete"]
    assert rules[SYSTEM, "configmaps"] == ["get", "list", "patch", "delete"]


def test_the_uninstallation_has_a_token_for_a_multi_user_server_and_deletes_secrets_of_projects() -> None:
    objects = render(values(multiUser=True))
    owner = next(name for name in pod_templates(objects) if "windlass-uninstall" in name)
    volumes = pod_templates(objects)[owner]["spec"]["volumes"]
    assert "pipelines-token" in [volume["name"] for volume in volumes]
    [secrets] = [
        rule for rule in only(objects, "ClusterRole", "windlass-uninstall")["rules"] if rule["resources"] == ["secrets"]
    ]
    assert secrets["verbs"] == ["delete"]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ({"pipelines": {"backend": "kfp"}}, "pipelines.kfp.host is .*: set it to the URL"),
        ({"pipelines": {"backend": "kfp", "kfp": {"host": "ml-pipeline:8888"}}}, "pipelines.kfp.host is .*: set it to"),
        (values(host="http:///x y"), "pipelines.kfp.host is .*: set it to the URL"),
        (values(host="http://ml-pipeline.kfp.svc:8888"), "namespace kfp, and pipelines.kfp.namespace is kubeflow"),
        ({"pipelines": {"backend": "argo"}}, "backend"),
        (values(namespace=SYSTEM), "pipelines.kfp.namespace is the release namespace"),
    ],
)
def test_values_that_cannot_work_are_refused(refused: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        render(refused)


@pytest.mark.parametrize(
    "host", ["http://ml-pipeline.kubeflow.svc.cluster.local:8888", "https://kfp.example.com/x", HOST]
)
def test_hosts_of_a_server(host: str) -> None:
    assert render(values(host=host))
