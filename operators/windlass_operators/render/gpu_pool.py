"""GPUPool -> ResourceFlavors, and a Topology where the pool names its domains."""

from windlass.kube.names import host_flavor_of, labels
from windlass.kube.resources import GPUPool
from windlass_operators.render import Object

KUEUE = "kueue.x-k8s.io/v1beta2"


def flavor(pool: GPUPool) -> Object:
    """Return the pool's ResourceFlavor: Kueue gives its node labels and tolerations to the pods that it admits."""
    spec: Object = {
        "nodeLabels": dict(pool.spec.node_labels),
        # a pod that lacks the toleration is still admitted: Kueue adds it, which nodeTaints alone would refuse
        "tolerations": [
            {"key": taint.key, "effect": taint.effect} | _matching(taint.value) for taint in pool.spec.taints
        ],
    }
    if pool.spec.topology_labels:
        spec["topologyName"] = pool.metadata.name
    return {
        "apiVersion": KUEUE,
        "kind": "ResourceFlavor",
        "metadata": {"name": pool.metadata.name, "labels": labels(pool=pool.metadata.name)},
        "spec": spec,
    }


def host_flavor(pool: GPUPool) -> Object:
    """Return the flavor of cpu and memory: it binds a pod to no node, as a Ray head need not stand beside GPUs."""
    return {
        "apiVersion": KUEUE,
        "kind": "ResourceFlavor",
        "metadata": {"name": host_flavor_of(pool.metadata.name), "labels": labels(pool=pool.metadata.name)},
        "spec": {},
    }


def topology(pool: GPUPool) -> Object | None:
    """Return the pool's Topology, widest domain first, or None without one."""
    if not pool.spec.topology_labels:
        return None
    return {
        "apiVersion": KUEUE,
        "kind": "Topology",
        "metadata": {"name": pool.metadata.name, "labels": labels(pool=pool.metadata.name)},
        "spec": {"levels": [{"nodeLabel": label} for label in pool.spec.topology_labels]},
    }


def objects(pool: GPUPool) -> list[Object]:
    """Return all that a pool needs, in the order to apply it."""
    found = topology(pool)
    return [*([found] if found else []), flavor(pool), host_flavor(pool)]


def _matching(value: str) -> Object:
    return {"operator": "Equal", "value": value} if value else {"operator": "Exists"}
