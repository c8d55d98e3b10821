"""The benchmark's fake nodes, with capacity for the pods of its Jobs."""

from concurrent.futures import ThreadPoolExecutor
from math import ceil

from tests.bench.cluster.sizes import POOL, Sizes
from tests.testcluster.fake_nodes import FAKE, TAINTS

from windlass.kube.client import KubeClient
from windlass.kube.objects import Kind, Object, Ref
from windlass_operators.kinds import NODE

_PODS = 100


def make(client: KubeClient, sizes: Sizes) -> int:
    """Create nodes for all workloads, and return their number."""
    count = ceil(sizes.workloads / _PODS)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: _make(client, f"{POOL}-{number}"), range(count)))
    return count


def _make(client: KubeClient, name: str) -> None:
    amounts = {"cpu": "1000", "memory": "4Ti", "pods": str(_PODS), "nvidia.com/gpu": str(_PODS)}
    labels = {"windlass.dev/pool": POOL, "type": "kwok", "kubernetes.io/hostname": name}
    metadata = {"name": name, "annotations": {FAKE: "fake"}, "labels": labels}
    desired: Object = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": TAINTS}}
    client.create(desired, manager="bench")
    status = {"status": {"capacity": amounts, "allocatable": amounts}}
    client.patch(Ref(NODE, name), status, manager="bench", subresource="status")


def pool() -> Object:
    """The GPUPool of these nodes."""
    taints = [{"key": one["key"], "value": one["value"], "effect": one["effect"]} for one in TAINTS]
    spec = {"nodeLabels": {"windlass.dev/pool": POOL}, "taints": taints}
    kind = Kind("windlass.dev/v1alpha1", "GPUPool")
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": POOL}, "spec": spec}
