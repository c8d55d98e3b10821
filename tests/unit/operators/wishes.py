"""Custom resources and Kueue's objects that the tests of the operators share."""

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


def endpoint(resolved: list[Json] | None = None, space: str = "wl-search", **spec: Any) -> ModelEndpoint:
    wish = {"traffic": [{"model": "tickets", "version": 1}]} | spec
    metadata = {"name": "live", "namespace": space, "uid": "e-1", "generation": 1}
    return ModelEndpoint.model_validate({"metadata": metadata, "spec": wish, "status": {"resolved": resolved or []}})


def resolved(number: int = 1, **fields: Any) -> Json:
    version = {"model": "tickets", "number": number, "weight": 100, "uri": "s3://models/t", "manifestSha256": "a" * 64}
    return version | fields


def workload(
    project: str, name: str, gpus: int, pool: str = "a100", *, held: bool = True, resource: str = "nvidia.com/gpu"
) -> Json:
    """A Workload as Kueue 0.19 writes it, as far as it is read here."""
    status: Json = {"resourceRequests": [{"name": "main", "resources": {resource: str(gpus), "cpu": "1"}}]}
    if held:
        assigned = {"name": "main", "flavors": {resource: pool}, "resourceUsage": {resource: str(gpus), "cpu": "1"}}
        status["admission"] = {"clusterQueue": f"{project}.{pool}", "podSetAssignments": [assigned]}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": f"wl-{project}", "creationTimestamp": MADE},
        "spec": {"queueName": pool, "priority": 0},
        "status": status,
    }


def node(name: str, pool: str = "a100", gpus: int = 8, *, ready: bool = True, cordoned: bool = False) -> Json:
    amounts = {"nvidia.com/gpu": str(gpus), "cpu": "64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"windlass.dev/pool": pool}},
        "spec": {"unschedulable": True} if cordoned else {},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
