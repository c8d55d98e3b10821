"""Nodes that exist only in the API server, in two GPU pools. KWOK simulates their kubelets."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.testcluster import processes
from tests.testcluster.builds import BuiltGroup
from tests.testcluster.cluster_api import ClusterApi, Json, apply, condition, documents_of
from tests.testcluster.components import Component
from tests.testcluster.layout import STATE_MOUNT, LocalCluster
from tests.testcluster.node import GPU, POOL_LABEL

RUN_FOR = "testcluster.local/run-for"
"""Annotation of a fake pod: how long it runs before it succeeds, e.g. ``30s``; one second without it."""
FAKE = "kwok.x-k8s.io/node"
POD_RANGE = "10.244.200.0/24"
"""Addresses of fake pods; nothing answers there."""
_STAGES = ("node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease")
_POD_STAGES = ("pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete")


@dataclass(frozen=True)
class FakePool:
    """Nodes with one GPU model."""

    name: str
    product: str
    nodes: int = 4
    gpus: int = 8


POOLS = (FakePool("a100", "NVIDIA-A100-SXM4-80GB"), FakePool("h100", "NVIDIA-H100-80GB-HBM3"))
# As on real GPU nodes: repels pods without GPU requests.
TAINTS = [{"key": GPU, "value": "present", "effect": "NoSchedule"}]


def _names(pool: FakePool) -> list[str]:
    return [f"{pool.name}-{number}" for number in range(pool.nodes)]


def nodes() -> list[Json]:
    """The Node objects of both pools."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {FAKE: "fake"},
                "labels": {
                    POOL_LABEL: pool.name,
                    "type": "kwok",
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "nvidia.com/gpu.product": pool.product,
                },
            },
            "spec": {"taints": TAINTS},
        }
        for pool in POOLS
        for name in _names(pool)
    ]


def patch_capacity(api: ClusterApi) -> None:
    """Write the nodes' capacity to their status, which KWOK does not manage."""
    for pool in POOLS:
        amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "ephemeral-storage": "1Ti", GPU: str(pool.gpus)}
        patch = {"status": {"capacity": amounts, "allocatable": amounts}}
        for name in _names(pool):
            api.call("PATCH", f"/api/v1/nodes/{name}/status", patch, "application/merge-patch+json")


def _delayed(stage: Json) -> Json:
    """Make a fake pod run for the time in its annotation."""
    if stage["metadata"]["name"] == "pod-complete":
        duration = {"expressionFrom": f'.metadata.annotations["{RUN_FOR}"]'}
        stage["spec"]["delay"] = {"durationMilliseconds": 1000, "durationFrom": duration}
    return stage


def components(kwok: BuiltGroup) -> tuple[Component, ...]:
    """KWOK with the stages of its module, and the nodes."""
    folder = kwok.file("kustomize")

    def start(cluster: LocalCluster) -> None:
        stages = [_delayed(each) for name in (*_STAGES, *_POD_STAGES) for each in _stage(folder, name)]
        (cluster.state / "etc" / "kwok.yaml").write_text(yaml.safe_dump_all(stages), "utf-8")
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "testcluster-kwok"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kwok-controller"},
            "subjects": [{"kind": "User", "name": "testcluster-kwok", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        apply(cluster, [*documents_of(folder / "rbac" / "role.yaml"), binding, *nodes()])
        options = [
            f"--kubeconfig={STATE_MOUNT}/etc/kwok.kubeconfig",
            f"--config={STATE_MOUNT}/etc/kwok.yaml",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={FAKE}=fake",
            "--server-address=127.0.0.1:10247",
            "--node-ip=127.0.0.1",
            "--node-port=10247",
            f"--cidr={POD_RANGE}",
            "--node-lease-duration-seconds=40",
        ]
        processes.start(cluster, "kwok", ["kwok", *options])

    return (Component("kwok", start, _nodes_ready, depends_on=("kube-apiserver",)),)


def _stage(folder: Path, name: str) -> list[Json]:
    return list(documents_of(folder / "stage" / f"{name}.yaml"))


def _nodes_ready(cluster: LocalCluster) -> bool:
    with ClusterApi(cluster) as api:
        nodes = api.items(f"/api/v1/nodes?labelSelector={POOL_LABEL}+in+({','.join(pool.name for pool in POOLS)})")
        if len(nodes) < sum(pool.nodes for pool in POOLS) or not all(condition(node, "Ready") for node in nodes):
            return False
        if any(GPU not in node["status"].get("allocatable", {}) for node in nodes):
            patch_capacity(api)
            return False
        return True
