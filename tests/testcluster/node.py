"""The real node: containerd, kubelet, kube-proxy, CoreDNS, and GPUs that exist only in its status."""

from tests.testcluster import images, processes
from tests.testcluster.cluster_api import ClusterApi, apply, condition, documents_of
from tests.testcluster.components import Component
from tests.testcluster.layout import NODE, NODE_ADDRESS, PACKAGE_DIR, STATE_MOUNT, LocalCluster

GPU = "nvidia.com/gpu"
GPUS = 4
POOL_LABEL = "windlass.dev/pool"
POOL = "real"
_PATH = f"/api/v1/nodes/{NODE}"


def _start_kubelet(cluster: LocalCluster) -> None:
    options = [
        f"--config={STATE_MOUNT}/etc/kubelet.yaml",
        f"--kubeconfig={STATE_MOUNT}/etc/kubelet.kubeconfig",
        f"--root-dir={STATE_MOUNT}/run/kubelet",
        f"--cert-dir={STATE_MOUNT}/run/kubelet/pki",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
        f"--node-labels={POOL_LABEL}={POOL}",
    ]
    processes.start(cluster, "kubelet", ["kubelet", *options])


def _node_ready(cluster: LocalCluster) -> bool:
    """Ready and with its GPUs; the kubelet preserves extended resources that others write to the status."""
    with ClusterApi(cluster) as api:
        node = api.read(_PATH)
        if not condition(node, "Ready"):
            return False
        if GPU not in (node or {})["status"]["capacity"]:
            amount = {GPU: str(GPUS)}
            patch = {"status": {"capacity": amount, "allocatable": amount}}
            api.call("PATCH", f"{_PATH}/status", patch, "application/merge-patch+json")
            return False
        return True


def _apply_dns(cluster: LocalCluster) -> None:
    apply(cluster, documents_of(PACKAGE_DIR / "manifests" / "dns.yaml"))


def _start_dns(cluster: LocalCluster) -> None:
    processes.start(cluster, "coredns", ["coredns", "-conf", f"{STATE_MOUNT}/etc/Corefile"])


def _start_proxy(cluster: LocalCluster) -> None:
    processes.start(cluster, "kube-proxy", ["kube-proxy", f"--config={STATE_MOUNT}/etc/kube-proxy.yaml"])


COMPONENTS = (
    Component("containerd", images.start_runtime, images.runtime_ready, depends_on=("images",)),
    Component("kubelet", _start_kubelet, _node_ready, depends_on=("kube-apiserver", "containerd")),
    Component("dns service", _apply_dns, depends_on=("kube-apiserver",)),
    Component(
        "coredns",
        _start_dns,
        lambda cluster: processes.listening(cluster, "coredns", 8181),
        depends_on=("dns service",),
    ),
    Component(
        "kube-proxy",
        _start_proxy,
        lambda cluster: processes.listening(cluster, "kube-proxy", 10256),
        depends_on=("dns service",),
    ),
)
