"""GPUPool: what its nodes have, who was promised it, who holds it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.quota import Claim
from windlass.kube.objects import Object
from windlass.kube.resources import GPUPool, GPUPoolStatus, Project, condition
from windlass.kube.resources.gpu_pool import PoolUse
from windlass_operators.children import Refusal
from windlass_operators.decide import READY, Verdict, refused, some
from windlass_operators.decide.claims import amount
from windlass_operators.decide.claims import condition as condition_of

OVERCOMMITTED = "Overcommitted"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pool's status depends on."""

    pools: Mapping[str, GPUPool]
    projects: Mapping[str, Project]
    nodes: Sequence[Object]
    claims: Sequence[Claim]


def status(pool: GPUPool, seen: Seen, refusals: Sequence[Refusal], now: datetime) -> GPUPoolStatus:
    """Return the pool's whole status."""
    name, resource = pool.metadata.name, pool.spec.resource_name
    nodes = [node for node in seen.nodes if _belongs(node, pool)]
    ready = [node for node in nodes if _ready(node)]
    capacity = sum(_gpus(node, "capacity", resource) for node in nodes)
    nominal = sum(quota.nominal for one in seen.projects.values() for quota in one.spec.quotas if quota.pool == name)
    held: dict[str, int] = {}
    for claim in seen.claims:
        if claim.pool == name and claim.admitted_at is not None:
            held[claim.project] = held.get(claim.project, 0) + claim.gpus
    verdicts = {
        READY: refused(refusals) or _shared(pool, seen.pools, nodes) or _nodes(pool, nodes, ready),
        OVERCOMMITTED: _promised(nominal, capacity),
    }
    return GPUPoolStatus(
        nodes=len(nodes),
        ready_nodes=len(ready),
        capacity=capacity,
        allocatable=sum(_gpus(node, "allocatable", resource) for node in ready),
        nominal=nominal,
        in_use=sum(held.values()),
        used_by=tuple(
            PoolUse(project=project, gpus=gpus)
            for project, gpus in sorted(held.items(), key=lambda one: (-one[1], one[0]))
        ),
        observed_generation=pool.metadata.generation,
        conditions=tuple(
            condition(
                pool.status.conditions,
                kind,
                status=one.status,
                reason=one.reason,
                message=one.message,
                generation=pool.metadata.generation,
                now=now,
            )
            for kind, one in verdicts.items()
        ),
    )


def held_by(pool: str, quotas: Iterable[tuple[str, str]]) -> list[str]:
    """Return what keeps a pool from being deleted, in words: the projects with a quota of it.

    ``quotas`` are pairs of project and pool, of the projects as they are stored, unreadable ones too.
    """
    users = sorted({project for project, name in quotas if name == pool})
    return [f"projects have quotas of it: {some(users)}; take them away first"] if users else []


def _belongs(node: Object, pool: GPUPool) -> bool:
    labels: dict[str, str] = node["metadata"].get("labels", {})
    return pool.spec.node_labels.items() <= labels.items()


def _ready(node: Object) -> bool:
    return condition_of(node, "Ready") == "True" and not node.get("spec", {}).get("unschedulable")


def _gpus(node: Object, field: str, resource: str) -> int:
    return amount(node.get("status", {}).get(field, {}).get(resource, 0))


def _shared(pool: GPUPool, pools: Mapping[str, GPUPool], nodes: Sequence[Object]) -> Verdict | None:
    """Two pools that count the same GPUs promise them twice."""
    for other in sorted(pools):
        both = [node["metadata"]["name"] for node in nodes if _belongs(node, pools[other])]
        if other != pool.metadata.name and both and pools[other].spec.resource_name == pool.spec.resource_name:
            message = f"nodes belong to pool {other} too: {some(both)}; give the pools labels that no node shares"
            return Verdict(status=False, reason="NodesShared", message=message)
    return None


def _nodes(pool: GPUPool, nodes: Sequence[Object], ready: Sequence[Object]) -> Verdict:
    labels = some(f"{name}={value}" for name, value in sorted(pool.spec.node_labels.items()))
    if not nodes:
        return Verdict(status=False, reason="NoNodes", message=f"no node has the labels {labels}")
    if not ready:
        message = f"none of {len(nodes)} nodes is ready and may be scheduled to"
        return Verdict(status=False, reason="NoReadyNode", message=message)
    return Verdict(status=True, reason="Reconciled", message=f"{len(ready)} of {len(nodes)} nodes are ready")


def _promised(nominal: int, capacity: int) -> Verdict:
    said = f"projects are promised {nominal} of {capacity} GPUs"
    if nominal > capacity:
        message = f"{said}: not all of them can have theirs at once"
        return Verdict(status=True, reason="NominalAboveCapacity", message=message)
    return Verdict(status=False, reason="WithinCapacity", message=said)
