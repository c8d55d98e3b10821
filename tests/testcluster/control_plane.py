"""etcd, the API server with its relay to the host, the controller manager and the scheduler."""

import socket

from tests.testcluster import processes, relay
from tests.testcluster.certificates import ACCOUNT_KEY
from tests.testcluster.cluster_api import ClusterApi
from tests.testcluster.components import Component
from tests.testcluster.configuration import write_kubeconfig
from tests.testcluster.layout import ETCD, NODE_ADDRESS, SERVICE_RANGE, STATE_MOUNT, LocalCluster

_PKI = STATE_MOUNT / "pki"
_ETC = STATE_MOUNT / "etc"


def _start_etcd(cluster: LocalCluster) -> None:
    peer = "http://127.0.0.1:2380"
    options = {
        "name": "testcluster",
        "data-dir": str(STATE_MOUNT / "run" / "etcd"),
        "listen-client-urls": ETCD,
        "advertise-client-urls": ETCD,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"testcluster={peer}",
        "quota-backend-bytes": str(4 << 30),
        "auto-compaction-retention": "1",
        "log-level": "warn",
    }
    # The data is deleted when the cluster stops, so it needs no fsync.
    processes.start(cluster, "etcd", ["etcd", "--unsafe-no-fsync", *_flags(options)])


def _flags(options: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _start_api_server(cluster: LocalCluster) -> None:
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
    processes.start(cluster, "kube-apiserver", ["kube-apiserver", *_flags(options)])


def _start_relay(cluster: LocalCluster) -> None:
    """Relay a loopback port of the host to the API server through a Unix socket, and write the kubeconfig for it.

    The previous port is reused if it is free, so that an exported KUBECONFIG stays valid after a restart.
    """
    port_file = cluster.state / "port"
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", int(port_file.read_text("utf-8"))))
        except (OSError, ValueError):
            listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        port_file.write_text(f"{port}\n", "utf-8")
        number = listener.fileno()
        command = [*relay.COMMAND, f"fd:{number}", "unix:api.sock"]
        processes.start(cluster, "relay-outside", command, in_namespaces=False, cwd=cluster.run_dir, fds=[number])
    inner = [*relay.COMMAND, f"unix:{STATE_MOUNT / 'run' / 'api.sock'}", f"{NODE_ADDRESS}:6443"]
    processes.start(cluster, "relay-inside", inner)
    write_kubeconfig(cluster, "admin", f"https://127.0.0.1:{port}", cluster.kubeconfig)


def _api_ready(cluster: LocalCluster) -> bool:
    with ClusterApi(cluster) as api:
        return api.is_ok("/readyz")


def _delegated(name: str) -> dict[str, str]:
    """Options of a component that authenticates its callers through the API server."""
    kubeconfig = f"{_ETC}/{name}.kubeconfig"
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "requestheader-client-ca-file": f"{_PKI}/front-proxy-ca.crt",
    }


def _start_controller_manager(cluster: LocalCluster) -> None:
    options = _delegated("controller-manager") | {
        "use-service-account-credentials": "true",
        "root-ca-file": f"{_PKI}/ca.crt",
        "service-account-private-key-file": f"{_PKI}/{ACCOUNT_KEY}.key",
        "cluster-signing-cert-file": f"{_PKI}/ca.crt",
        "cluster-signing-key-file": f"{_PKI}/ca.key",
    }
    processes.start(cluster, "kube-controller-manager", ["kube-controller-manager", *_flags(options)])


def _service_account_exists(cluster: LocalCluster) -> bool:
    with ClusterApi(cluster) as api:
        return api.is_ok("/api/v1/namespaces/default/serviceaccounts/default")


def _start_scheduler(cluster: LocalCluster) -> None:
    processes.start(cluster, "kube-scheduler", ["kube-scheduler", *_flags(_delegated("scheduler"))])


COMPONENTS = (
    Component("relay", _start_relay, depends_on=("namespaces", "certificates")),
    Component(
        "etcd",
        _start_etcd,
        lambda cluster: processes.listening(cluster, "etcd", 2379),
        depends_on=("namespaces", "certificates"),
    ),
    Component("kube-apiserver", _start_api_server, _api_ready, depends_on=("etcd", "relay"), timeout_seconds=120),
    Component(
        "kube-controller-manager", _start_controller_manager, _service_account_exists, depends_on=("kube-apiserver",)
    ),
    Component(
        "kube-scheduler",
        _start_scheduler,
        lambda cluster: processes.listening(cluster, "kube-scheduler", 10259),
        depends_on=("kube-apiserver",),
    ),
)
