"""Project -> NetworkPolicies of its namespace: default deny, and what Ray and the run protocol need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from windlass_operators.render import Object

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
_NAME_LABEL: Final = "app.kubernetes.io/name"
_COMPONENT_LABEL: Final = "app.kubernetes.io/component"
_INTERNAL_PORT: Final = 8742
"""Run protocol and transfers of files (Service windlass-internal)."""
_SERVE_PORT: Final = 8000
_DASHBOARD_PORTS: Final = (8265, 52365)
"""Ray's dashboard, by which KubeRay submits jobs and Serve applications, and its agent."""


@dataclass(frozen=True, slots=True)
class PlatformNetwork:
    """Where the pods of projects find the platform, and who may connect to them."""

    namespace: str = "windlass-system"
    """Of the control plane."""
    kuberay_namespace: str = "ray-system"
    object_store_peers: Sequence[Object] = ()
    """NetworkPolicyPeers of the object store; empty: every address."""
    object_store_port: int = 443
    runner_namespace: str = ""
    """Of the pods of runs on a Kubeflow Pipelines server; empty: that of the control plane."""


def network_policy_specs(network: PlatformNetwork) -> dict[str, Object]:
    """Return the specs of the policies by name.

    Pods may reach each other, DNS, the control plane's internal port and the object store. The control plane may reach
    model servers, and KubeRay also Ray's dashboard. Everything else is denied.
    """
    same_namespace: Object = {"podSelector": {}}
    api = _peer(network.namespace, {_NAME_LABEL: "windlass", _COMPONENT_LABEL: "api"})
    control_plane = _peer(network.namespace, {_NAME_LABEL: "windlass"})
    # By its component, since KubeRay may share the namespace of the control plane; its charts and manifests set it.
    kuberay = _peer(network.kuberay_namespace, {_COMPONENT_LABEL: "kuberay-operator"})
    both = ["Ingress", "Egress"]
    object_store: Object = {"ports": _ports(network.object_store_port)}
    if network.object_store_peers:
        object_store["to"] = list(network.object_store_peers)
    return {
        # explicit empty lists, so that an added rule counts as drift
        "windlass-deny": {"podSelector": {}, "policyTypes": both, "ingress": [], "egress": []},
        "windlass-ray": {
            "podSelector": {},
            "policyTypes": both,
            "ingress": [
                {"from": [same_namespace]},
                {"from": [control_plane], "ports": _ports(_SERVE_PORT)},
                {"from": [kuberay], "ports": _ports(_SERVE_PORT, *_DASHBOARD_PORTS)},
            ],
            "egress": [
                {"to": [same_namespace]},
                {"to": [api], "ports": _ports(_INTERNAL_PORT)},
                {"to": [_peer("kube-system")], "ports": [*_ports(53, protocol="UDP"), *_ports(53)]},
                object_store,
            ],
        },
    }


def _peer(namespace: str, pods: Object | None = None) -> Object:
    peer: Object = {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: namespace}}}
    return peer | ({"podSelector": {"matchLabels": pods}} if pods else {})


def _ports(*ports: int, protocol: str = "TCP") -> list[Object]:
    return [{"protocol": protocol, "port": port} for port in ports]
