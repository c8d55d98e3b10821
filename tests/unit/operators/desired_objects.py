"""Custom resources and Kueue objects for the tests of the operators."""

from typing import Any

from windlass.kube.resources import GPUPool, ModelEndpoint, Project

Json = dict[str, Any]
MADE = "2026-11-22T10:00:00Z"


def pool(name: str = "a100", **spec: Any) -> GPUPool:
    labels = {"nodeLabels": {"windlass.dev/pool": name}}
    return GPUPool.model_validate({"metadata": {"name": name, "uid": f"pool-{name}"}, "spec": labels | spec})


def project(*quotas: Json, name: str = "search", uid: str = "11111111-2222", **spec: Any) -> Project:
    metadata = {"name": name, "uid": uid, "generation": 3}
    return Project.model_validate({"metadata": metadata, "spec": {"quotas": list(quotas), **spec}})


def endpoint(*versions: Json, space: str = "wl-search", **spec: Any) -> ModelEndpoint:
    metadata = {"name": "live", "namespace": space, "uid": "e-1", "generation": 1}
    return ModelEndpoint.model_validate({"metadata": metadata, "spec": endpoint_spec(*versions, **spec)})


def endpoint_spec(*versions: Json, **spec: Any) -> Json:
    internal = "http://windlass-internal.windlass-system.svc:8742"
    served = list(versions) or [served_version()]
    return {"project": "search", "endpoint": "live", "versions": served, "internalUrl": internal} | spec


def served_version(number: int = 1, **fields: Any) -> Json:
    version = {
        "service": f"ep-live-{number}",
        "key": f"ep-1-mv-{number}",
        "task": "text-classification",
        "model": f"tickets@{number}",
        "uri": "s3://models/t",
        "digest": "a" * 64,
        "image": "windlass/ray:1",
        "rayVersion": "2.60.0",
    }
    return version | fields


def workload(
    project: str, name: str, gpus: int, pool: str = "a100", *, admitted: bool = True, resource: str = "nvidia.com/gpu"
) -> Json:
    """A Workload of Kueue 0.19 with the fields that are read."""
    amounts = {resource: str(gpus), "cpu": "1"}
    status: Json = {}
    if admitted:
        assigned = {"name": "main", "flavors": {resource: pool}, "resourceUsage": amounts}
        status["admission"] = {"clusterQueue": f"{project}.{pool}", "podSetAssignments": [assigned]}
        status["conditions"] = [{"type": "QuotaReserved", "status": "True", "lastTransitionTime": MADE}]
    template = {"spec": {"containers": [{"name": "main", "resources": {"requests": amounts}}]}}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": f"wl-{project}", "uid": f"uid-{name}", "creationTimestamp": MADE},
        "spec": {"queueName": pool, "priority": 0, "podSets": [{"name": "main", "count": 1, "template": template}]},
        "status": status,
    }


def node(
    name: str,
    pool: str = "a100",
    gpus: int = 8,
    *,
    ready: bool = True,
    cordoned: bool = False,
    taints: list[Json] | None = None,
) -> Json:
    amounts = {"nvidia.com/gpu": str(gpus), "cpu": "64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"windlass.dev/pool": pool}},
        "spec": {"taints": taints or []} | ({"unschedulable": True} if cordoned else {}),
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
