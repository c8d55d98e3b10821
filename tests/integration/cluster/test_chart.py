"""The charts on a real API server: every object is accepted, generated secrets survive upgrades."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts import pipelines
from tests.charts.rendering import CHART, PROFILES, REQUIRED, SYSTEM, is_hook, profile
from tests.integration.cluster.installed import install_crds, install_definitions
from tests.integration.cluster.objects import namespace
from tests.testcluster.cluster_api import apply, documents, kubectl
from tests.testcluster.layout import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def prepared(cluster: LocalCluster) -> LocalCluster:
    """The cluster with the CRDs and a restricted namespace."""
    install_crds(cluster)
    space = namespace(SYSTEM)
    space["metadata"]["labels"] = space["metadata"].get("labels", {}) | RESTRICTED
    apply(cluster, [space])
    return cluster


def helm(cluster: LocalCluster, *arguments: str) -> str:
    ended = subprocess.run(
        [str(cluster.bin / "helm"), *arguments],
        env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def values_file(folder: Path, values: Json) -> str:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values), "utf-8")
    return str(file)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_api_server_accepts_every_object_of_a_profile(prepared: LocalCluster, path: Path, tmp_path: Path) -> None:
    values = values_file(tmp_path, profile(path) | {"monitoring": {"enabled": False}})
    where = ["windlass", str(CHART), "--namespace", SYSTEM, "--values", values]
    helm(prepared, "lint", "--strict", str(CHART), "--values", values)
    objects = list(documents(helm(prepared, "template", *where)))
    # A pod is refused while its account does not exist, also in a dry run.
    apply(prepared, [one for one in objects if one["kind"] == "ServiceAccount"])
    assert_accepted(prepared, objects)


def assert_accepted(cluster: LocalCluster, objects: list[Json]) -> None:
    """The API server accepts the objects in a dry run, without a warning."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    options = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "--field-manager=test",
        "--filename=-",
    ]
    accepted = kubectl(cluster, *options, "--warnings-as-errors", given=text)
    assert accepted.count("serverside-applied (server dry run)") == len(objects)


@pytest.fixture(scope="module")
def pipelines_space(cluster: LocalCluster) -> LocalCluster:
    """The cluster with a namespace for the pipelines chart, which warns of pods that it would refuse."""
    space = namespace(pipelines.NAMESPACE)
    space["metadata"]["labels"] = RESTRICTED | {"pod-security.kubernetes.io/warn": "restricted"}
    apply(cluster, [space])
    return cluster


def pipelines_release(folder: Path) -> list[str]:
    values = values_file(folder, pipelines.REQUIRED)
    return [pipelines.RELEASE, str(pipelines.PIPELINES), "--namespace", pipelines.NAMESPACE, "--values", values]


def test_the_api_server_accepts_every_object_of_the_pipelines_chart(
    pipelines_space: LocalCluster, tmp_path: Path
) -> None:
    objects = list(documents(helm(pipelines_space, "template", *pipelines_release(tmp_path))))
    definitions = [one for one in objects if one["kind"] == "CustomResourceDefinition"]
    install_definitions(pipelines_space, definitions)
    assert_accepted(pipelines_space, objects)
    # Objects of the kinds keep all of their content.
    for definition in definitions:
        spec = definition["spec"]
        one = {
            "apiVersion": f"{spec['group']}/{spec['versions'][0]['name']}",
            "kind": spec["names"]["kind"],
            "metadata": {"name": "any"} | ({"namespace": pipelines.NAMESPACE} if spec["scope"] == "Namespaced" else {}),
            "spec": {"templates": [{"name": "step", "inputs": {"parameters": [{"name": "a", "value": "1"}]}}]},
        }
        apply(pipelines_space, [one])
        scope = ["-n", pipelines.NAMESPACE] if spec["scope"] == "Namespaced" else []
        read = kubectl(pipelines_space, *scope, "get", definition["metadata"]["name"], "any", "-o", "json")
        assert json.loads(read)["spec"] == one["spec"], definition["metadata"]["name"]


def test_an_upgrade_of_the_pipelines_chart_keeps_the_passwords(pipelines_space: LocalCluster, tmp_path: Path) -> None:
    """Pods do not start: the cluster has no images of this release."""
    where = pipelines_release(tmp_path)
    get = ["get", "manifest", pipelines.RELEASE, "--namespace", pipelines.NAMESPACE]
    helm(pipelines_space, "install", *where, "--take-ownership")
    try:
        first = helm(pipelines_space, *get)
        helm(pipelines_space, "upgrade", *where)
        assert helm(pipelines_space, *get) == first
    finally:
        helm(pipelines_space, "uninstall", pipelines.RELEASE, "--namespace", pipelines.NAMESPACE)
    name = "kubeflow-pipelines-mysql"
    [rendered] = [one for one in documents(first) if (one["kind"], one["metadata"]["name"]) == ("Secret", name)]
    kept = kubectl(pipelines_space, "-n", pipelines.NAMESPACE, "get", "secret", name, "-o", "jsonpath={.data}")
    assert json.loads(kept) == rendered["data"]
    assert "workflows.argoproj.io" in kubectl(pipelines_space, "get", "customresourcedefinitions", "-o", "name")


def test_monitoring_needs_the_api_of_the_prometheus_operator(cluster: LocalCluster, tmp_path: Path) -> None:
    values = values_file(tmp_path, REQUIRED | {"monitoring": {"enabled": True, "apiKeySecret": "key"}})
    where = ["template", "windlass", str(CHART), "--namespace", SYSTEM, "--values", values]
    kinds = [one["kind"] for one in documents(helm(cluster, *where))]
    assert not {"PodMonitor", "PrometheusRule"} & set(kinds)
    kinds = [one["kind"] for one in documents(helm(cluster, *where, "--api-versions", "monitoring.coreos.com/v1"))]
    assert kinds.count("PodMonitor") == 3
    assert kinds.count("PrometheusRule") == 1


def test_an_upgrade_changes_nothing_and_keeps_the_generated_secrets(prepared: LocalCluster, tmp_path: Path) -> None:
    """Pods do not start: the cluster has no images of this release."""
    values = values_file(tmp_path, REQUIRED | {"migration": {"enabled": False}})
    where = ["windlass", str(CHART), "--namespace", SYSTEM, "--values", values]
    helm(prepared, "install", *where, "--take-ownership")
    try:
        first = helm(prepared, "get", "manifest", "windlass", "--namespace", SYSTEM)
        helm(prepared, "upgrade", *where)
        assert helm(prepared, "get", "manifest", "windlass", "--namespace", SYSTEM) == first
        secret = json.loads(kubectl(prepared, "-n", SYSTEM, "get", "secret", "windlass-secrets", "-o", "json"))
        [rendered] = [
            one
            for one in documents(first)
            if (one["kind"], one["metadata"]["name"]) == ("Secret", "windlass-secrets") and not is_hook(one)
        ]
        assert secret["data"] == rendered["data"]
    finally:
        helm(prepared, "uninstall", "windlass", "--namespace", SYSTEM, "--no-hooks")
    kept = kubectl(prepared, "-n", SYSTEM, "get", "secret", "windlass-secrets", "-o", "jsonpath={.data}")
    assert json.loads(kept) == secret["data"]
