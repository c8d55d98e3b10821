"""The GPUs that are free on each node of a pool, from its nodes and the pods of all projects."""

from collections import Counter
from collections.abc import Iterable, Mapping

from windlass.kube.kueue.cluster_objects import Node, Pod, Toleration
from windlass.kube.resources import GPUPool

_ENDED = frozenset({"Succeeded", "Failed"})


def free_gpus(pool: GPUPool, nodes: Iterable[Node], pods: Iterable[Pod]) -> tuple[int, ...]:
    """Return the free GPUs of each node that takes pods of the pool, the most first.

    Pods that Kueue does not manage are not counted.
    """
    resource, wanted = pool.spec.resource_name, pool.spec.node_labels.items()
    tolerations = [Toleration(key=taint.key, value=taint.value, effect=taint.effect) for taint in pool.spec.taints]
    usable = [node for node in nodes if wanted <= node.metadata.labels.items() and not node.obstacle(tolerations)]
    used = _used(resource, pods)
    free = (max(0, node.allocatable(resource) - used.get(node.metadata.name, 0)) for node in usable)
    return tuple(sorted(free, reverse=True))


def _used(resource: str, pods: Iterable[Pod]) -> Mapping[str, int]:
    used: Counter[str] = Counter()
    for pod in pods:
        if pod.spec.node_name and pod.status.phase not in _ENDED:
            used[pod.spec.node_name] += pod.spec.requested(resource)
    return used
