"""The test cluster enforces NetworkPolicies, so that tests of the chart's policies can fail."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from tests.integration.cluster.network_probes import eventually_reachable, reachable
from tests.integration.cluster.objects import namespace, pod
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, apply, condition, kubectl
from tests.testcluster.fixture import command
from tests.testcluster.layout import LocalCluster
from tests.testcluster.project_images import reference

pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
Json = dict[str, Any]
SERVER, CLIENTS, PORT, OTHER_PORT = "policy-server", "policy-clients", 8000, 8001
API_SERVER = "10.96.0.1:443"
FRIEND = {"matchLabels": {"app": "friend"}}
ALL_NAMESPACES: Json = {}
DNS_RULE = {
    "to": [{"namespaceSelector": ALL_NAMESPACES, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
    "ports": [{"protocol": "UDP", "port": 53}],
}
_SERVE = f"python -m http.server {PORT} & exec python -m http.server {OTHER_PORT}"
# Connects, waits for a line, and sends a request over the connection.
_REQUEST_LATER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as connection:
    print("connected", flush=True)
    sys.stdin.readline()
    connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(connection.recv(12).decode(), flush=True)
"""
# Tries to connect from its start, for a number of seconds.
_CONNECT_AT_ONCE = f"""
import socket, sys, time
connects, deadline = False, time.monotonic() + float(sys.argv[2])
while not connects and time.monotonic() < deadline:
    try:
        socket.create_connection((sys.argv[1], {PORT}), timeout=0.2).close()
        connects = True
    except OSError:
        pass
print(connects)
"""


def python_pod(where: str, name: str, command_line: list[str]) -> Json:
    created = pod(where, reference("operators"), command_line)
    created["metadata"] |= {"name": name, "labels": {"app": name}}
    return created


def server_pod() -> Json:
    server = python_pod(SERVER, "server", ["sh", "-c", _SERVE])
    server["spec"]["containers"][0] |= {
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": OTHER_PORT}, "periodSeconds": 1},
    }
    return server


def policy(where: str, selector: Json, **spec: Any) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "tested", "namespace": where},
        "spec": {"podSelector": selector, **spec},
    }


@dataclass(frozen=True)
class Network:
    """A server with two ports and a Service, and two clients in another namespace."""

    cluster: LocalCluster
    server: str
    service: str
    """Their addresses."""
    friend: str
    """The address of one client."""

    @property
    def targets(self) -> list[str]:
        return [f"{self.server}:{PORT}", f"{self.server}:{OTHER_PORT}", f"{self.service}:80", API_SERVER]

    def expect(self, client: str, *, port: bool, other_port: bool, api_server: bool = True) -> None:
        """Wait until exactly these connections of a client pass; the Service has the first port."""
        passes = dict(zip(self.targets, (port, other_port, port, api_server), strict=True))
        expected = [target for target, passed in passes.items() if passed]
        eventually_reachable(self.cluster, CLIENTS, client, self.targets, expected)


@pytest.fixture(scope="module")
def created(cluster: LocalCluster) -> Network:
    ended = command(cluster, "up", "--image", "operators")
    assert ended.returncode == 0, ended.stderr
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server", "namespace": SERVER},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": PORT}]},
    }
    sleeping = partial(python_pod, CLIENTS, command_line=["sleep", "infinity"])
    apply(cluster, [namespace(SERVER), namespace(CLIENTS)])
    apply(cluster, [server_pod(), service, sleeping("friend"), sleeping("stranger")])
    paths = {
        name: f"/api/v1/namespaces/{where}/pods/{name}"
        for where, name in [(SERVER, "server"), (CLIENTS, "friend"), (CLIENTS, "stranger")]
    }
    with ClusterApi(cluster) as api:
        eventually(lambda: all(condition(api.read(path), "Ready") for path in paths.values()), "the pods are ready", 90)
        addresses = {name: (api.read(path) or {})["status"]["podIP"] for name, path in paths.items()}
        created_service = api.read(f"/api/v1/namespaces/{SERVER}/services/server") or {}
    return Network(cluster, addresses["server"], created_service["spec"]["clusterIP"], addresses["friend"])


@pytest.fixture
def network(created: Network) -> Iterator[Network]:
    """The network without policies."""
    for client in ("friend", "stranger"):
        created.expect(client, port=True, other_port=True)
    yield created
    for where in (SERVER, CLIENTS):
        kubectl(created.cluster, "-n", where, "delete", "networkpolicies", "--all")


@pytest.mark.parametrize(
    ("peer", "reached_by"),
    [
        ({"podSelector": FRIEND}, set()),  # of the policy's own namespace, which has none
        ({"namespaceSelector": ALL_NAMESPACES, "podSelector": FRIEND}, {"friend"}),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": CLIENTS}}}, {"friend", "stranger"}),
        (lambda friend: {"ipBlock": {"cidr": "10.244.0.0/24", "except": [f"{friend}/32"]}}, {"stranger"}),
    ],
    ids=["pods of the namespace", "pods of all namespaces", "a namespace", "addresses"],
)
def test_only_the_peers_of_a_rule_reach_a_pod_on_its_ports(
    network: Network, peer: Json | Callable[[str], Json], reached_by: set[str]
) -> None:
    peer = peer(network.friend) if callable(peer) else peer
    apply(network.cluster, [policy(SERVER, {}, ingress=[{"from": [peer], "ports": [{"port": "http"}]}])])
    for client in ("friend", "stranger"):
        network.expect(client, port=client in reached_by, other_port=False)
    with ClusterApi(network.cluster) as api:  # the kubelet's probes pass
        assert condition(api.read(f"/api/v1/namespaces/{SERVER}/pods/server"), "Ready")


def test_a_pod_reaches_only_what_its_egress_rules_allow(network: Network) -> None:
    server_rule = {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SERVER}}}],
        "ports": [{"port": PORT, "endPort": OTHER_PORT - 1}],
    }
    apply(network.cluster, [policy(CLIENTS, FRIEND, policyTypes=["Egress"], egress=[DNS_RULE, server_rule])])
    network.expect("friend", port=True, other_port=False, api_server=False)
    network.expect("stranger", port=True, other_port=True)
    by_address, by_name = f"{network.server}:{PORT}", f"server.{SERVER}.svc.cluster.local.:80"
    eventually_reachable(network.cluster, CLIENTS, "friend", [by_address, by_name], [by_address, by_name])
    apply(network.cluster, [policy(CLIENTS, FRIEND, policyTypes=["Egress"], egress=[server_rule])])
    eventually_reachable(network.cluster, CLIENTS, "friend", [by_address, by_name], [by_address])


def test_an_established_connection_outlives_a_policy_that_denies_new_ones(network: Network) -> None:
    kubectl_command = [str(network.cluster.bin / "kubectl"), f"--kubeconfig={network.cluster.kubeconfig}"]
    execute = [*kubectl_command, "-n", CLIENTS, "exec", "-i", "friend", "--", "python", "-c", _REQUEST_LATER]
    with subprocess.Popen(
        [*execute, network.server, str(PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin
        assert client.stdout
        assert client.stdout.readline() == "connected\n"
        apply(network.cluster, [policy(SERVER, {}), policy(CLIENTS, {}, policyTypes=["Ingress", "Egress"])])
        network.expect("friend", port=False, other_port=False, api_server=False)
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == "HTTP/1.0 200\n"


def test_a_pod_is_restricted_before_the_rules_have_its_address(network: Network) -> None:
    def connects(name: str, seconds: int) -> str:
        """Whether a new pod can connect in its first seconds."""
        program = ["python", "-c", _CONNECT_AT_ONCE, network.server, str(seconds)]
        apply(network.cluster, [python_pod(CLIENTS, name, program)])
        path = f"/api/v1/namespaces/{CLIENTS}/pods/{name}"
        with ClusterApi(network.cluster) as api:
            eventually(lambda: (api.read(path) or {})["status"].get("phase") == "Succeeded", "the pod ends", 90)
        return kubectl(network.cluster, "-n", CLIENTS, "logs", name)

    assert connects("free", 60) == "True\n"
    apply(network.cluster, [policy(CLIENTS, {"matchLabels": {"app": "denied"}}, policyTypes=["Egress"])])
    assert connects("denied", 8) == "False\n"


def test_the_rules_are_only_in_the_network_namespace_of_the_cluster(network: Network) -> None:
    apply(network.cluster, [policy(SERVER, {})])
    network.expect("friend", port=False, other_port=False)
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "network_policies" not in tables
    assert reachable(network.cluster, CLIENTS, "friend", [API_SERVER]) == {API_SERVER}
