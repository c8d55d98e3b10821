"""Minimal Kueue objects; the queues are rendered by the operators."""

from datetime import UTC, datetime
from typing import Any

from windlass.kube.kueue.queues import ClusterQueue, LocalQueue
from windlass.kube.kueue.snapshot import KueueState
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import cluster_queue_of, local_queue_of, namespace_of
from windlass.kube.resources import GPUPool, Project
from windlass_operators.render import queues

GPU = "nvidia.com/gpu"
Json = dict[str, Any]


def pool(name: str = "a100", capacity: int = 0, **spec: Any) -> GPUPool:
    labels = {"nodeLabels": {"windlass.dev/pool": name}}
    return GPUPool.model_validate({"metadata": {"name": name}, "spec": labels | spec, "status": {"capacity": capacity}})


def project(name: str, *quotas: Json, cohort: str | None = "lab") -> Project:
    return Project.model_validate(
        {"metadata": {"name": name, "uid": name}, "spec": {"cohort": cohort, "quotas": list(quotas)}}
    )


def second(number: int) -> str:
    """A timestamp in Kubernetes format."""
    return f"2026-11-22T10:{number // 60:02}:{number % 60:02}Z"


def condition(kind: str, *, status: bool = True, reason: str = "x", message: str = "", at: int = 0) -> Json:
    return {
        "type": kind,
        "status": str(status),
        "reason": reason,
        "message": message,
        "lastTransitionTime": second(at),
    }


def pending_workload(owner: str, name: str, gpus: int, *, priority: int = 0, at: int = 0, pool: str = "a100") -> Json:
    """A workload that Kueue has not evaluated yet."""
    template = {"spec": {"containers": [{"name": "main", "resources": {"requests": {GPU: str(gpus), "cpu": "500m"}}}]}}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace_of(owner),
            "uid": f"uid-{name}",
            "creationTimestamp": second(at),
        },
        "spec": {
            "queueName": local_queue_of(pool),
            "priority": priority,
            "active": True,
            "podSets": [{"name": "main", "count": 1, "template": template}],
        },
    }


def admitted(owner: str, name: str, gpus: int, *, priority: int = 0, at: int = 0, pool: str = "a100") -> Json:
    """An admitted workload."""
    given = {"name": "main", "count": 1, "flavors": {GPU: pool}, "resourceUsage": {GPU: str(gpus)}}
    status = {
        "admission": {"clusterQueue": cluster_queue_of(owner, pool), "podSetAssignments": [given]},
        "conditions": [condition("QuotaReserved", at=at), condition("Admitted", at=at)],
    }
    return pending_workload(owner, name, gpus, priority=priority, at=at, pool=pool) | {"status": status}


def state(projects: list[Project], *workloads: Json, pools: tuple[GPUPool, ...] = ()) -> KueueState:
    """The state of a cluster with these projects."""
    pools = pools or (pool(),)
    rendered = [one for each in projects for one in queues.objects(each, {one.metadata.name: one for one in pools})]
    return KueueState(
        now=datetime(2026, 11, 22, 12, tzinfo=UTC),
        pools=pools,
        cluster_queues=ClusterQueue.parse_all(one for one in rendered if one["kind"] == "ClusterQueue"),
        local_queues=LocalQueue.parse_all(one for one in rendered if one["kind"] == "LocalQueue"),
        workloads=Workload.parse_all(workloads),
    )
