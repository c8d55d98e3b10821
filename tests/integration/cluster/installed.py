"""Installs the parts of the Windlass chart that the tests of operators and policies need."""

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.architecture.tree import ROOT
from tests.charts.rendering import CRDS, SYSTEM, render
from tests.integration.cluster.fault_proxy import FaultProxy
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, apply, condition, documents_of, kubectl
from tests.testcluster.layout import LocalCluster

from windlass.kube.client import KubeClient, load_configuration

Json = dict[str, Any]
_INSTALLED = {
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "WorkloadPriorityClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
WORKER = f"system:serviceaccount:{SYSTEM}:windlass-worker"
"""The account that submits jobs."""
CONTROL = f"system:serviceaccount:{SYSTEM}:windlass-api"
"""The account that reads the cluster state and changes quotas."""


def install_crds(cluster: LocalCluster) -> None:
    """Install the CRDs of Windlass and wait until they are established."""
    install_definitions(cluster, [one for path in sorted(CRDS.glob("*.yaml")) for one in documents_of(path)])


def install_definitions(cluster: LocalCluster, definitions: list[Json]) -> None:
    """Install these CRDs and wait until they are established."""
    apply(cluster, definitions)
    with ClusterApi(cluster) as api:
        for one in definitions:
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{one['metadata']['name']}"
            eventually(partial(_established, api, path), f"{path} is established")


def _established(api: ClusterApi, path: str) -> bool:
    return condition(api.read(path), "Established")


def chart_manifests() -> list[Json]:
    """The chart's permissions, priority classes and admission policies."""
    return [
        one
        for one in render()
        if one["kind"] in _INSTALLED and "helm.sh/hook" not in one["metadata"].get("annotations", {})
    ]


def admin_client(cluster: LocalCluster, **options: Any) -> KubeClient:
    return KubeClient(load_configuration(cluster.kubeconfig), **options)


def control_plane_client(cluster: LocalCluster) -> KubeClient:
    """A client with the control plane's account."""
    return admin_client(cluster, impersonate=CONTROL)


def grant(account: str, name: str, *rules: tuple[str, str]) -> list[Json]:
    """Grant a user all verbs on resources, so that only policies can stop it."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": [resource], "verbs": ["*"]} for group, resource in rules],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": account}],
    }
    return [role, binding]


RIGHTS = (
    ("batch", "jobs"),
    ("ray.io", "*"),
    *(
        ("", f"pods{part}")
        for part in ("", "/ephemeralcontainers", "/exec", "/attach", "/portforward", "/proxy", "/resize")
    ),
)


@pytest.fixture(scope="module")
def installed(cluster: LocalCluster) -> LocalCluster:
    """The cluster with CRDs, priority classes and policies."""
    install_crds(cluster)
    apply(cluster, [namespace(SYSTEM), *chart_manifests(), *grant(WORKER, "test-worker", *RIGHTS)])
    return cluster


def restricted(amounts: Json, **fields: Any) -> Json:
    """A pod spec that Pod Security's *restricted* level and our policies admit."""
    container = {
        "name": "main",
        "image": "no-node-pulls-it",
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "serviceAccountName": "windlass-trainer",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    } | fields


def queued_job(project: str, name: str, gpus: int, pool: str = "a100", run_for: str = "1h") -> Json:
    """A Job in a project's queue, which runs on fake nodes for the given time."""
    amounts = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
    labels = {"kueue.x-k8s.io/queue-name": pool, "kueue.x-k8s.io/priority-class": "windlass-0"}
    template = {"metadata": {"annotations": {"testcluster.local/run-for": run_for}}, "spec": restricted(amounts)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": f"wl-{project}", "labels": labels},
        "spec": {"suspend": True, "parallelism": gpus, "completions": gpus, "backoffLimit": 0, "template": template},
    }


def ray_group(gpus: int = 1, container: str = "ray-worker") -> Json:
    amounts = {"cpu": "1", "memory": "2Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    spec = restricted(amounts)
    del spec["restartPolicy"]
    spec["containers"][0] |= {"name": container, "image": "windlass/ray"}
    return {"rayStartParams": {}, "template": {"spec": spec}}


def valid_ray_job(project: str, name: str, priority: str = "windlass-0", workers: int = 2) -> Json:
    """A RayJob as Windlass submits it, with workers of one GPU each."""
    sizes = dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), workers)
    labels = {"kueue.x-k8s.io/queue-name": "a100", "kueue.x-k8s.io/priority-class": priority}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name, "namespace": f"wl-{project}", "labels": labels},
        "spec": {
            "entrypoint": "python -m windlass_pipelines.train",
            "submissionMode": "HTTPMode",
            "shutdownAfterJobFinishes": True,
            "suspend": True,
            "rayClusterSpec": {
                "rayVersion": "2.60.0",
                "headGroupSpec": ray_group(0, "ray-head"),
                "workerGroupSpecs": [{"groupName": "workers", **sizes, **ray_group()}],
            },
        },
    }


def guide(name: str) -> list[Json]:
    """The objects of a file of the quota guide; pools also tolerate fake nodes."""
    objects = list(documents_of(ROOT / "docs/guides/quotas" / name))
    for each in objects:
        if each["kind"] == "GPUPool":
            each["spec"]["taints"].append({"key": "kwok.x-k8s.io/node", "value": "fake"})
    return objects


def write_kubeconfig(cluster: LocalCluster, account: str, file: Path, server: str | None = None) -> Path:
    """Write a kubeconfig with a token of an account, optionally for another address of the API server."""
    token = kubectl(cluster, "-n", SYSTEM, "create", "token", account, "--duration=4h").strip()
    config = json.loads(cluster.kubeconfig.read_text("utf-8"))
    for user in config["users"]:
        user["user"] = {"token": token}
    if server:
        config["clusters"][0]["cluster"] = {"server": server}
    file.write_text(json.dumps(config), "utf-8")
    return file


def fault_proxy(cluster: LocalCluster) -> FaultProxy:
    """A proxy in front of the cluster's API server."""
    far = json.loads(cluster.kubeconfig.read_text("utf-8"))["clusters"][0]["cluster"]
    return FaultProxy(far["server"], base64.b64decode(far["certificate-authority-data"]).decode())


def read_log(path: Path) -> list[Json]:
    """The JSON lines of a process's log."""
    lines = path.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
