"""etcd, the API server with the way to it from the host, the controller manager and the scheduler."""

import socket
import sys

from tests.bed import processes
from tests.bed.certificates import ACCOUNT_KEY
from tests.bed.cluster_api import ClusterApi
from tests.bed.configuration import write_kubeconfig
from tests.bed.layout import ETCD, HERE, INSIDE, NODE_ADDRESS, SERVICE_RANGE, Bed
from tests.bed.parts import Part

_PKI = INSIDE / "pki"
_ETC = INSIDE / "etc"
_RELAY = [sys.executable, "-I", str(HERE / "relay.py")]


def _start_etcd(bed: Bed) -> None:
    peer = "http://127.0.0.1:2380"
    options = {
        "name": "bed",
        "data-dir": str(INSIDE / "life" / "etcd"),
        "listen-client-urls": ETCD,
        "advertise-client-urls": ETCD,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"bed={peer}",
        "quota-backend-bytes": str(4 << 30),
        "auto-compaction-retention": "1",
        "log-level": "warn",
    }
    # What is written ends with this life, so nothing is worth a wait for the disk.
    processes.start(bed, "etcd", ["etcd", "--unsafe-no-fsync", *_flags(options)])


def _flags(options: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _start_api_server(bed: Bed) -> None:
    options = {
        "etcd-servers": ETCD,
        "bind-address": NODE_ADDRESS,
        "advertise-address": NODE_ADDRESS,
        "secure-port": "6443",
        "service-cluster-ip-range": SERVICE_RANGE,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "client-ca-file": f"{_PKI}/ca.crt",
        "tls-cert-file": f"{_PKI}/apiserver.crt",
        "tls-private-key-file": f"{_PKI}/apiserver.key",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": f"{_PKI}/{ACCOUNT_KEY}.pub",
        "service-account-signing-key-file": f"{_PKI}/{ACCOUNT_KEY}.key",
        "requestheader-client-ca-file": f"{_PKI}/front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "proxy-client-cert-file": f"{_PKI}/front-proxy-client.crt",
        "proxy-client-key-file": f"{_PKI}/front-proxy-client.key",
        "kubelet-certificate-authority": f"{_PKI}/ca.crt",
        "kubelet-client-certificate": f"{_PKI}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{_PKI}/apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",
        "event-ttl": "6h",
        "profiling": "false",
    }
    processes.start(bed, "kube-apiserver", ["kube-apiserver", *_flags(options)])


def _start_relay(bed: Bed) -> None:
    """Join a loopback port of the host to the API server through a socket file, and write the kubeconfig for it.

    The port of the last life is taken again where it is free, so that a terminal's KUBECONFIG outlives a ``down``.
    """
    known = bed.state / "port"
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", int(known.read_text("utf-8"))))
        except (OSError, ValueError):
            listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        known.write_text(f"{port}\n", "utf-8")
        number = listener.fileno()
        command = [*_RELAY, f"fd:{number}", "unix:api.sock"]
        processes.start(bed, "relay-outside", command, inside=False, cwd=bed.life, fds=[number])
    inner = [*_RELAY, f"unix:{INSIDE / 'life' / 'api.sock'}", f"{NODE_ADDRESS}:6443"]
    processes.start(bed, "relay-inside", inner)
    write_kubeconfig(bed, "admin", f"https://127.0.0.1:{port}", bed.kubeconfig)


def _api_ready(bed: Bed) -> bool:
    with ClusterApi(bed) as api:
        return api.answers("/readyz")


def _delegated(name: str) -> dict[str, str]:
    """How a component finds the API server, and asks it who its own callers are."""
    kubeconfig = f"{_ETC}/{name}.kubeconfig"
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "requestheader-client-ca-file": f"{_PKI}/front-proxy-ca.crt",
    }


def _start_controller_manager(bed: Bed) -> None:
    options = _delegated("controller-manager") | {
        "use-service-account-credentials": "true",
        "root-ca-file": f"{_PKI}/ca.crt",
        "service-account-private-key-file": f"{_PKI}/{ACCOUNT_KEY}.key",
        "cluster-signing-cert-file": f"{_PKI}/ca.crt",
        "cluster-signing-key-file": f"{_PKI}/ca.key",
    }
    processes.start(bed, "kube-controller-manager", ["kube-controller-manager", *_flags(options)])


def _accounts_are_made(bed: Bed) -> bool:
    with ClusterApi(bed) as api:
        return api.answers("/api/v1/namespaces/default/serviceaccounts/default")


def _start_scheduler(bed: Bed) -> None:
    processes.start(bed, "kube-scheduler", ["kube-scheduler", *_flags(_delegated("scheduler"))])


PARTS = (
    Part("relay", _start_relay, needs=("namespaces", "certificates")),
    Part(
        "etcd",
        _start_etcd,
        lambda bed: processes.listening(bed, "etcd", 2379),
        needs=("namespaces", "certificates"),
    ),
    Part("kube-apiserver", _start_api_server, _api_ready, needs=("etcd", "relay"), patience=120),
    Part("kube-controller-manager", _start_controller_manager, _accounts_are_made, needs=("kube-apiserver",)),
    Part(
        "kube-scheduler",
        _start_scheduler,
        lambda bed: processes.listening(bed, "kube-scheduler", 10259),
        needs=("kube-apiserver",),
    ),
)
