"""The real node: containerd, kubelet, kube-proxy and CoreDNS, and GPUs that exist in its status alone."""

from tests.bed import images, processes
from tests.bed.cluster_api import ClusterApi, apply, condition, documents_of
from tests.bed.layout import HERE, INSIDE, NODE, NODE_ADDRESS, Bed
from tests.bed.parts import Part

GPU = "nvidia.com/gpu"
GPUS = 4
POOL_LABEL = "windlass.dev/pool"
POOL = "real"
_PATH = f"/api/v1/nodes/{NODE}"


def _start_kubelet(bed: Bed) -> None:
    options = [
        f"--config={INSIDE}/etc/kubelet.yaml",
        f"--kubeconfig={INSIDE}/etc/kubelet.kubeconfig",
        f"--root-dir={INSIDE}/life/kubelet",
        f"--cert-dir={INSIDE}/life/kubelet/pki",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
        f"--node-labels={POOL_LABEL}={POOL}",
    ]
    processes.start(bed, "kubelet", ["kubelet", *options])


def _node_ready(bed: Bed) -> bool:
    """Ready, and with its GPUs: the kubelet keeps a capacity in the status that is not its own."""
    with ClusterApi(bed) as api:
        node = api.read(_PATH)
        if not condition(node, "Ready"):
            return False
        if GPU not in (node or {})["status"]["capacity"]:
            amount = {GPU: str(GPUS)}
            patch = {"status": {"capacity": amount, "allocatable": amount}}
            api.call("PATCH", f"{_PATH}/status", patch, "application/merge-patch+json")
            return False
        return True


def _apply_dns(bed: Bed) -> None:
    apply(bed, documents_of(HERE / "manifests" / "dns.yaml"))


def _start_dns(bed: Bed) -> None:
    processes.start(bed, "coredns", ["coredns", "-conf", f"{INSIDE}/etc/Corefile"])


def _start_proxy(bed: Bed) -> None:
    processes.start(bed, "kube-proxy", ["kube-proxy", f"--config={INSIDE}/etc/kube-proxy.yaml"])


PARTS = (
    Part("containerd", images.start_runtime, images.runtime_ready, needs=("images",)),
    Part("kubelet", _start_kubelet, _node_ready, needs=("kube-apiserver", "containerd")),
    Part("dns service", _apply_dns, needs=("kube-apiserver",)),
    Part("coredns", _start_dns, lambda bed: processes.listening(bed, "coredns", 8181), needs=("dns service",)),
    Part("kube-proxy", _start_proxy, lambda bed: processes.listening(bed, "kube-proxy", 10256), needs=("dns service",)),
)
