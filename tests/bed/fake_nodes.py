"""Nodes that exist in the API server alone, in two GPU pools. KWOK plays their kubelets."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.bed import processes
from tests.bed.builds import Built
from tests.bed.cluster_api import ClusterApi, Json, apply, condition, documents_of
from tests.bed.layout import INSIDE, Bed
from tests.bed.node import GPU, POOL_LABEL
from tests.bed.parts import Part

RUN_FOR = "bed.local/run-for"
"""Annotation of a fake pod: how long it runs before it succeeds, e.g. ``30s``; one second without it."""
FAKE = "kwok.x-k8s.io/node"
_STAGES = ("node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease")
_POD_STAGES = ("pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete")


@dataclass(frozen=True)
class Pool:
    """Nodes of one kind of GPU."""

    name: str
    product: str
    nodes: int = 4
    gpus: int = 8


POOLS = (Pool("a100", "NVIDIA-A100-SXM4-80GB"), Pool("h100", "NVIDIA-H100-80GB-HBM3"))
TAINTS = [
    # As real GPU nodes have it, for pods that ask for no GPU.
    {"key": GPU, "value": "present", "effect": "NoSchedule"},
    # For pods that want to really run.
    {"key": FAKE, "value": "fake", "effect": "NoSchedule"},
]


def _names(pool: Pool) -> list[str]:
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


def give_capacity(api: ClusterApi) -> None:
    """Write what the nodes have into their status; KWOK leaves it alone."""
    for pool in POOLS:
        amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "ephemeral-storage": "1Ti", GPU: str(pool.gpus)}
        patch = {"status": {"capacity": amounts, "allocatable": amounts}}
        for name in _names(pool):
            api.call("PATCH", f"/api/v1/nodes/{name}/status", patch, "application/merge-patch+json")


def _delayed(stage: Json) -> Json:
    """Let a fake pod run for the time in its annotation."""
    if stage["metadata"]["name"] == "pod-complete":
        wanted = {"expressionFrom": f'.metadata.annotations["{RUN_FOR}"]'}
        stage["spec"]["delay"] = {"durationMilliseconds": 1000, "durationFrom": wanted}
    return stage


def parts(kwok: Built) -> tuple[Part, ...]:
    """KWOK, with the stages that its own module brings, and the nodes."""
    folder = kwok.file("kustomize")

    def start(bed: Bed) -> None:
        stages = [_delayed(each) for name in (*_STAGES, *_POD_STAGES) for each in _stage(folder, name)]
        (bed.state / "etc" / "kwok.yaml").write_text(yaml.safe_dump_all(stages), "utf-8")
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "bed-kwok"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kwok-controller"},
            "subjects": [{"kind": "User", "name": "bed-kwok", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        apply(bed, [*documents_of(folder / "rbac" / "role.yaml"), binding, *nodes()])
        options = [
            f"--kubeconfig={INSIDE}/etc/kwok.kubeconfig",
            f"--config={INSIDE}/etc/kwok.yaml",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={FAKE}=fake",
            "--server-address=127.0.0.1:10247",
            "--node-ip=127.0.0.1",
            "--node-port=10247",
            "--cidr=10.244.200.0/24",
            "--node-lease-duration-seconds=40",
        ]
        processes.start(bed, "kwok", ["kwok", *options])

    return (Part("kwok", start, _nodes_ready, needs=("kube-apiserver",)),)


def _stage(folder: Path, name: str) -> list[Json]:
    return list(documents_of(folder / "stage" / f"{name}.yaml"))


def _nodes_ready(bed: Bed) -> bool:
    with ClusterApi(bed) as api:
        found = api.items(f"/api/v1/nodes?labelSelector={POOL_LABEL}+in+({','.join(pool.name for pool in POOLS)})")
        if len(found) < sum(pool.nodes for pool in POOLS) or not all(condition(node, "Ready") for node in found):
            return False
        if any(GPU not in node["status"].get("allocatable", {}) for node in found):
            give_capacity(api)
            return False
        return True
