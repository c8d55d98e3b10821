"""Windlass as its chart puts it into the cluster, as far as the tests of operators and policies need it."""

import base64
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.architecture.tree import ROOT
from tests.bed.cluster_api import ClusterApi, apply, condition, documents_of, kubectl
from tests.bed.fixture import command
from tests.bed.layout import Bed
from tests.integration.cluster.fault_proxy import FaultProxy
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.waiting import eventually

from windlass.kube.client import Client, load_configuration

Json = dict[str, Any]
SYSTEM = "windlass-system"
CHART = ROOT / "helm/windlass"
WORKER = f"system:serviceaccount:{SYSTEM}:windlass-worker"
"""The account that submits jobs; who may use it is the control plane."""
CONTROL = f"system:serviceaccount:{SYSTEM}:windlass-api"
"""The account that keeps the mirror and changes quotas."""


def define(cluster: Bed) -> None:
    """Put the definitions of the custom resources into the cluster, and wait until they are served."""
    definitions = [one for path in sorted((CHART / "crds").glob("*.yaml")) for one in documents_of(path)]
    apply(cluster, definitions)
    with ClusterApi(cluster) as api:
        for one in definitions:
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{one['metadata']['name']}"
            eventually(partial(_established, api, path), f"{path} is established")


def _established(api: ClusterApi, path: str) -> bool:
    return condition(api.read(path), "Established")


def shipped() -> list[Json]:
    """The manifests of the chart that need no rendering."""
    files = [CHART / "templates/priority-classes.yaml", CHART / "templates/operators/rbac.yaml"]
    files += [CHART / "templates/control-plane/rbac.yaml"]
    files += sorted((CHART / "templates/policies").glob("*.yaml"))
    return [one for path in files for one in documents_of(path)]


def admin_of(cluster: Bed, **options: Any) -> Client:
    return Client(load_configuration(cluster.kubeconfig), **options)


def control_of(cluster: Bed) -> Client:
    """Return the control plane's client, with the rights that the chart gives its account."""
    return admin_of(cluster, impersonate=CONTROL)


def may(account: str, name: str, *rules: tuple[str, str]) -> list[Json]:
    """Give a user rights to do everything with resources: policies shall be what stops it."""
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
    *(("", f"pods{part}") for part in ("", "/ephemeralcontainers", "/exec", "/attach", "/portforward", "/resize")),
)


@pytest.fixture(scope="module")
def installed(cluster: Bed) -> Iterator[Bed]:
    """The cluster with definitions, priority classes and policies; as it was before when the module is through."""
    define(cluster)
    apply(cluster, [namespace(SYSTEM), *shipped(), *may(WORKER, "test-worker", *RIGHTS)])
    yield cluster
    ended = command(cluster, "reset")
    assert ended.returncode == 0, ended.stderr


def restricted(amounts: Json, **fields: Any) -> Json:
    """The spec of a pod that Pod Security's *restricted* level and our policies take."""
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
    """A Job in a project's queue, which on fake nodes runs for the given time."""
    amounts = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
    labels = {"kueue.x-k8s.io/queue-name": pool, "kueue.x-k8s.io/priority-class": "windlass-0"}
    template = {"metadata": {"annotations": {"bed.local/run-for": run_for}}, "spec": restricted(amounts)}
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


def honest_ray_job(project: str, name: str, priority: str = "windlass-0", workers: int = 2) -> Json:
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
    """The objects of a file of the guide; pools also tolerate that the bed's nodes are fake."""
    found = list(documents_of(ROOT / "docs/guides/quotas" / name))
    for one in found:
        if one["kind"] == "GPUPool":
            one["spec"]["taints"].append({"key": "kwok.x-k8s.io/node", "value": "fake"})
    return found


def kubeconfig_of(cluster: Bed, account: str, file: Path, server: str | None = None) -> Path:
    """Write a kubeconfig with a token of an account of the control plane, for another address of the API server."""
    token = kubectl(cluster, "-n", SYSTEM, "create", "token", account, "--duration=4h").strip()
    config = json.loads(cluster.kubeconfig.read_text("utf-8"))
    for user in config["users"]:
        user["user"] = {"token": token}
    if server:
        config["clusters"][0]["cluster"] = {"server": server}
    file.write_text(json.dumps(config), "utf-8")
    return file


def proxy_of(cluster: Bed) -> FaultProxy:
    """A proxy before the cluster's API server."""
    far = json.loads(cluster.kubeconfig.read_text("utf-8"))["clusters"][0]["cluster"]
    return FaultProxy(far["server"], base64.b64decode(far["certificate-authority-data"]).decode())


def read_log(path: Path) -> list[Json]:
    """The lines of a process's log that are JSON."""
    lines = path.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
