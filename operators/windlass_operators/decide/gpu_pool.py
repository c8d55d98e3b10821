"""GPUPool: capacity of its nodes, nominal quotas, and usage.

Capacity, quotas and what can be placed are three numbers: Kueue knows only quotas, so the status names the nodes that
take no pods of the pool.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.kube.kueue.cluster_objects import Node, Toleration
from windlass.kube.resources import GPUPool, GPUPoolStatus, Project
from windlass.kube.resources.gpu_pool import PoolUse
from windlass_operators.children import ApplyFailure
from windlass_operators.decide import READY, ConditionResult, apply_failed, conditions, join_limited

GPU_MEMORY_LABEL = "nvidia.com/gpu.memory"
"""Memory of one GPU in MiB, set by NVIDIA's GPU feature discovery."""
_MEBIBYTES = re.compile("[1-9][0-9]{0,9}")
OVERCOMMITTED = "Overcommitted"
NODES_UNUSABLE = "NodesUnusable"


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """The state that a pool's status depends on."""

    pools: Mapping[str, GPUPool]
    projects: Mapping[str, Project]
    nodes: Sequence[Node]
    used: Mapping[str, int]
    """GPUs of the pool in use, by project."""


def status(
    pool: GPUPool, observation: PoolObservation, failures: Sequence[ApplyFailure], now: datetime
) -> GPUPoolStatus:
    """Return the pool's status."""
    name, resource = pool.metadata.name, pool.spec.resource_name
    nodes = [node for node in observation.nodes if _belongs(node, pool)]
    tolerations = [Toleration(key=taint.key, value=taint.value, effect=taint.effect) for taint in pool.spec.taints]
    obstacles = {node.metadata.name: problem for node in nodes if (problem := node.obstacle(tolerations))}
    usable = [node for node in nodes if node.metadata.name not in obstacles]
    capacity = sum(node.capacity(resource) for node in nodes)
    allocatable = sum(node.allocatable(resource) for node in usable)
    nominal = sum(
        quota.nominal
        for project in observation.projects.values()
        for quota in project.spec.quotas
        if quota.pool == name
    )
    results = {
        READY: apply_failed(failures)
        or _shared_nodes(pool, observation.pools, nodes)
        or _ready_condition(pool, nodes, obstacles),
        OVERCOMMITTED: _capacity_condition(nominal, allocatable),
        NODES_UNUSABLE: _nodes_condition(obstacles, capacity, allocatable),
    }
    return GPUPoolStatus(
        nodes=len(nodes),
        ready_nodes=len(usable),
        capacity=capacity,
        allocatable=allocatable,
        gpu_memory=pool.spec.gpu_memory or _labelled_memory(nodes),
        nominal=nominal,
        in_use=sum(observation.used.values()),
        used_by=tuple(
            PoolUse(project=project, gpus=gpus)
            for project, gpus in sorted(observation.used.items(), key=lambda item: (-item[1], item[0]))
        ),
        observed_generation=pool.metadata.generation,
        conditions=conditions(pool.status.conditions, results, pool.metadata.generation, now),
    )


def quota_users(pool: str, quotas: Iterable[tuple[str, str]]) -> list[str]:
    """Return what prevents the deletion of a pool: a message with the projects that have quota of it.

    ``quotas`` are pairs of project and pool of all stored projects, including invalid ones.
    """
    users = sorted({project for project, name in quotas if name == pool})
    return [f"projects have quotas of this pool: {join_limited(users)}; remove these quotas first"] if users else []


def _belongs(node: Node, pool: GPUPool) -> bool:
    return pool.spec.node_labels.items() <= node.metadata.labels.items()


def _labelled_memory(nodes: Sequence[Node]) -> str:
    """Return the least memory of a GPU by the nodes' labels, empty if a node has no valid label."""
    labels = [node.metadata.labels.get(GPU_MEMORY_LABEL, "") for node in nodes]
    if not labels or not all(_MEBIBYTES.fullmatch(label) for label in labels):
        return ""
    return f"{min(map(int, labels))}Mi"


def _shared_nodes(pool: GPUPool, pools: Mapping[str, GPUPool], nodes: Sequence[Node]) -> ConditionResult | None:
    """Return a result if another pool counts the same GPUs."""
    for other in sorted(pools):
        shared = [node.metadata.name for node in nodes if _belongs(node, pools[other])]
        if other != pool.metadata.name and shared and pools[other].spec.resource_name == pool.spec.resource_name:
            names = join_limited(shared)
            message = f"nodes also belong to pool {other}: {names}; use labels that select disjoint sets of nodes"
            return ConditionResult(status=False, reason="NodesShared", message=message)
    return None


def _ready_condition(pool: GPUPool, nodes: Sequence[Node], obstacles: Mapping[str, str]) -> ConditionResult:
    labels = join_limited(f"{name}={value}" for name, value in sorted(pool.spec.node_labels.items()))
    if not nodes:
        return ConditionResult(status=False, reason="NoNodes", message=f"no node has the labels {labels}")
    if len(obstacles) == len(nodes):
        message = f"none of {len(nodes)} nodes takes pods of this pool: {_describe(obstacles)}"
        return ConditionResult(status=False, reason="NoUsableNode", message=message)
    message = f"{len(nodes) - len(obstacles)} of {len(nodes)} nodes take pods"
    return ConditionResult(status=True, reason="Reconciled", message=message)


def _nodes_condition(obstacles: Mapping[str, str], capacity: int, allocatable: int) -> ConditionResult:
    """Return whether nodes take no pods of the pool, and which: jobs that Kueue admits would wait for them."""
    if not obstacles:
        return ConditionResult(status=False, reason="AllUsable", message="all nodes take pods")
    message = f"{allocatable} of {capacity} GPUs can be used: {_describe(obstacles)}"
    if any("taint" in problem for problem in obstacles.values()):
        message += "; add the taint to spec.taints, or remove it from the node"
    return ConditionResult(status=True, reason="NodesTakeNoPods", message=message)


def _describe(obstacles: Mapping[str, str]) -> str:
    return join_limited((f"node {name} {problem}" for name, problem in sorted(obstacles.items())), "; ")


def _capacity_condition(nominal: int, allocatable: int) -> ConditionResult:
    message = f"nominal quotas sum to {nominal} of {allocatable} usable GPUs"
    if nominal > allocatable:
        message = f"{message}: projects cannot use all of their quotas at once"
        return ConditionResult(status=True, reason="NominalAboveCapacity", message=message)
    return ConditionResult(status=False, reason="WithinCapacity", message=message)
