"""The checks of a cluster, on objects as Kubernetes returns them."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from tests.architecture.tree import ROOT
from tests.charts.rendering import render

from windlass.domain.checks import CheckResult, CheckState
from windlass.kube.preflight import cluster, probe_process
from windlass.kube.preflight.kueue_configuration import check_kueue_configuration
from windlass.kube.preflight.versions import (
    OperatorDeployment,
    Version,
    check_kubernetes,
    check_operators,
    find_operator,
)
from windlass.kube.resources import KINDS

Json = dict[str, Any]


def deployment(name: str, image: str, *, namespace: str = "system", label: str = "", available: bool = True) -> Json:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/version": label} if label else {},
        },
        "spec": {"template": {"spec": {"serviceAccountName": name, "containers": [{"image": image}]}}},
        "status": {"conditions": [{"type": "Available", "status": str(available)}]},
    }


def operators(kueue: Json | None, kuberay: Json | None) -> dict[str, CheckResult]:
    found = [find_operator([one] if one else [], one["metadata"]["name"] if one else "") for one in (kueue, kuberay)]
    return {result.check: result for result in check_operators(*found)}


KUEUE = deployment("kueue-controller-manager", "registry.k8s.io/kueue/kueue:main", label="v0.19.2")
KUBERAY = deployment("kuberay-operator", "quay.io/kuberay/operator:v1.6.2@sha256:0123")


def test_a_supported_pair_is_ok() -> None:
    found = operators(KUEUE, KUBERAY)
    assert {result.state for result in found.values()} == {CheckState.OK}
    assert found["kueue and kuberay"].result == "Kueue 0.19.2 with KubeRay 1.6.2"


def test_the_label_has_precedence_and_the_tag_is_read_without_the_digest() -> None:
    assert OperatorDeployment.of(KUEUE).version == Version(0, 19, 2)
    assert OperatorDeployment.of(KUBERAY).version == Version(1, 6, 2)
    assert OperatorDeployment.of(deployment("x", "registry:5000/operator")).version is None


def test_kubernetes_1_33_is_too_old() -> None:
    assert check_kubernetes({"gitVersion": "v1.34.1-eks-abc"}).state is CheckState.OK
    old = check_kubernetes({"gitVersion": "v1.33.9"})
    assert (old.state, old.action) == (CheckState.FAILED, "upgrade the cluster to 1.34.0 or later")


@pytest.mark.parametrize(
    ("kueue", "kuberay", "check", "state", "result"),
    [
        (None, KUBERAY, "kueue", CheckState.FAILED, "not installed"),
        (KUEUE, None, "kuberay", CheckState.FAILED, "not installed"),
        (
            deployment("k", "kueue:v0.18.4"),
            KUBERAY,
            "kueue",
            CheckState.FAILED,
            "0.18.4 in namespace system is too old",
        ),
        (KUEUE, deployment("k", "r:1.5.1"), "kuberay", CheckState.FAILED, "1.5.1 in namespace system is too old"),
        (KUEUE, deployment("k", "r:latest"), "kuberay", CheckState.WARNING, "unknown version in namespace system"),
        (
            deployment("k", "kueue:v0.19.2", available=False),
            KUBERAY,
            "kueue",
            CheckState.FAILED,
            "0.19.2 in namespace system is not available",
        ),
        (
            KUEUE,
            deployment("k", "r:v1.7.0"),
            "kueue and kuberay",
            CheckState.FAILED,
            "Kueue 0.19.2 with KubeRay 1.7.0: endpoints that Kueue has queued or evicted never start again",
        ),
    ],
)
def test_a_wrong_operator_is_reported_with_a_way_out(
    kueue: Json | None, kuberay: Json | None, check: str, state: CheckState, result: str
) -> None:
    found = operators(kueue, kuberay)[check]
    assert (found.state, found.result) == (state, result)
    assert found.action


@pytest.mark.parametrize(
    ("peers", "state", "result"),
    [
        ([], CheckState.WARNING, "pods of projects reach every address on port 9000"),
        ([{"ipBlock": {"cidr": "10.0.0.0/24"}}], CheckState.OK, "the object store and the control plane"),
    ],
)
def test_pods_of_projects_that_reach_every_address_are_reported(
    peers: list[Json], state: CheckState, result: str
) -> None:
    deployments = [
        one
        for one in render({"networkPolicy": {"objectStoreTo": peers, "objectStorePort": 9000}})
        if one["kind"] == "Deployment"
    ]
    [found] = cluster.check_egress(deployments, "windlass-system")
    assert (found.state, found.result) == (state, result)
    assert list(cluster.check_egress(deployments, "other")) == [], "nothing is installed there"


def test_missing_custom_resources_are_named() -> None:
    names = [f"{kind.plural}.windlass.dev" for kind in KINDS]
    definitions = [{"metadata": {"name": name}} for name in names]
    assert cluster.check_custom_resources(definitions).state is CheckState.OK
    missing = cluster.check_custom_resources(definitions[1:])
    assert (missing.state, missing.result) == (CheckState.FAILED, f"not installed: {names[0]}")


def test_the_policies_of_the_chart_must_trust_the_accounts_of_the_operators() -> None:
    policies = [one for one in render() if one["kind"] == "ValidatingAdmissionPolicy"]
    assert {one["metadata"]["name"] for one in policies} == cluster.POLICIES
    kueue = OperatorDeployment("kueue-system", "kueue-controller-manager", Version(0, 19), available=True)
    elsewhere = OperatorDeployment("kuberay", "kuberay-operator", Version(1, 6), available=True)
    assert cluster.check_policies(policies, [kueue]).state is CheckState.OK
    found = cluster.check_policies(policies, [kueue, elsewhere])
    assert found.state is CheckState.FAILED
    assert found.result == "they refuse the work of system:serviceaccount:kuberay:kuberay-operator"
    assert cluster.check_policies(policies[1:], [kueue]).state is CheckState.FAILED


def test_gpus_are_counted_by_resource() -> None:
    nodes = [
        {"status": {"allocatable": {"cpu": "8", "nvidia.com/gpu": "4"}}},
        {"status": {"allocatable": {"nvidia.com/gpu": "2", "amd.com/gpu": "1"}}},
    ]
    assert cluster.check_gpus(nodes).result == "1 amd.com/gpu, 6 nvidia.com/gpu"
    none = cluster.check_gpus([{"status": {"allocatable": {"cpu": "8", "nvidia.com/gpu": "0"}}}])
    assert (none.state, none.result) == (CheckState.WARNING, "no node offers a GPU")


def test_a_default_storage_class_is_found() -> None:
    mark = {"storageclass.kubernetes.io/is-default-class": "true"}
    classes: list[Json] = [{"metadata": {"name": "slow"}}, {"metadata": {"name": "fast", "annotations": mark}}]
    assert cluster.check_storage(classes).result == "fast"
    assert cluster.check_storage(classes[:1]).state is CheckState.WARNING


@pytest.mark.parametrize(("seconds", "state"), [(-7, CheckState.FAILED), (-5, CheckState.OK), (4, CheckState.OK)])
def test_a_clock_may_differ_by_five_seconds(seconds: int, state: CheckState) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = cluster.check_clock("the API server", now + timedelta(seconds=seconds), now, now + timedelta(seconds=1))
    assert found.state is state


@contextmanager
def listening(*ports: int) -> Iterator[list[int]]:
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", port))).getsockname()[1] for port in ports]


def test_the_probe_reports_which_ports_it_reached() -> None:
    with listening(0, 0) as [permitted, denied]:
        assert probe_process.connect("127.0.0.1", permitted, denied, 0.02) == probe_process.NOT_ENFORCED
    with listening(0) as [permitted]:
        assert probe_process.connect("127.0.0.1", permitted, denied, 0.02) == probe_process.ENFORCED
    assert probe_process.connect("127.0.0.1", permitted, denied, 0.02) == probe_process.NO_CONNECTION


def manager_configuration(**changes: Any) -> Json:
    """The ConfigMap of the values of windlass-stack, with changes."""
    values = yaml.safe_load((ROOT / "helm" / "windlass-stack" / "values.yaml").read_text("utf-8"))
    configuration = yaml.safe_load(values["kueue"]["managerConfig"]["controllerManagerConfigYaml"])
    kept = {name: value for name, value in (configuration | changes).items() if value is not None}
    return {
        "metadata": {"name": "kueue-manager-config"},
        "data": {"controller_manager_config.yaml": yaml.safe_dump(kept)},
    }


def test_the_configuration_of_the_stack_and_of_the_test_cluster_is_ok() -> None:
    values = yaml.safe_load((ROOT / "tests" / "testcluster" / "manifests" / "kueue-values.yaml").read_text("utf-8"))
    tested = values["managerConfig"]["controllerManagerConfigYaml"]
    for one in (manager_configuration(), {"metadata": {}, "data": {"controller_manager_config.yaml": tested}}):
        assert check_kueue_configuration(one).state is CheckState.OK


@pytest.mark.parametrize(
    ("changes", "state", "result"),
    [
        ({"integrations": {"frameworks": ["batch/job"]}}, CheckState.FAILED, "does not manage ray.io/rayjob"),
        ({"integrations": None}, CheckState.FAILED, "does not manage batch/job"),
        ({"resources": None}, CheckState.FAILED, "does not cover"),
        ({"waitForPodsReady": None}, CheckState.WARNING, "30 minutes"),
        ({"waitForPodsReady": {"timeout": "5m"}}, CheckState.WARNING, "endpoints without replicas"),
    ],
)
def test_another_configuration_of_kueue(changes: Json, state: CheckState, result: str) -> None:
    found = check_kueue_configuration(manager_configuration(**changes))
    assert found.state is state
    assert result in found.result


@pytest.mark.parametrize("data", [{}, {"controller_manager_config.yaml": "a: ["}])
def test_a_configuration_that_cannot_be_read(data: Json) -> None:
    found = check_kueue_configuration({"metadata": {"name": "kueue-manager-config"}, "data": data})
    assert found.state is CheckState.FAILED
