"""GPUPool -> ResourceFlavors, without a Topology: Kueue would admit only workloads that request one (docs/adr/0048)."""

from windlass.kube.names import host_flavor_of, labels
from windlass.kube.resources import GPUPool
from windlass_operators.render import Object

KUEUE = "kueue.x-k8s.io/v1beta2"


def flavor(pool: GPUPool) -> Object:
    """Return the pool's ResourceFlavor: Kueue adds its node labels and tolerations to admitted pods."""
    spec: Object = {
        "nodeLabels": dict(pool.spec.node_labels),
        # with tolerations Kueue admits a pod without them and adds them; nodeTaints would reject it
        "tolerations": [
            {"key": taint.key, "effect": taint.effect} | _matching(taint.value) for taint in pool.spec.taints
        ],
    }
    return {
        "apiVersion": KUEUE,
        "kind": "ResourceFlavor",
        "metadata": {"name": pool.metadata.name, "labels": labels(pool=pool.metadata.name)},
        "spec": spec,
    }


def host_flavor(pool: GPUPool) -> Object:
    """Return the flavor of cpu and memory, without node labels: a Ray head may run on any node."""
    return {
        "apiVersion": KUEUE,
        "kind": "ResourceFlavor",
        "metadata": {"name": host_flavor_of(pool.metadata.name), "labels": labels(pool=pool.metadata.name)},
        "spec": {},
    }


def objects(pool: GPUPool) -> list[Object]:
    """Return the pool's objects, in the order to apply them."""
    return [flavor(pool), host_flavor(pool)]


def _matching(value: str) -> Object:
    return {"operator": "Equal", "value": value} if value else {"operator": "Exists"}
