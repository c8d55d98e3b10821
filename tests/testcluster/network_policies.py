"""Translates NetworkPolicies to rules of nftables, for the pods of one node. Pure: reads objects, returns text.

A connection from a pod passes the chain of its egress, and one to a pod the chain of its ingress; a chain returns at
the first rule that allows the connection, and drops the others. Pods that no policy selects have no chain. The node
itself reaches every pod, as the kubelet's probes must; a pod reaches the node as its egress rules allow, because the
API server runs there. A policy does not end connections that were established before it.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any, Literal

Json = dict[str, Any]
Direction = Literal["ingress", "egress"]
TABLE = "network_policies"
LINK_LOCAL = "ip6 saddr fe80::/10 drop"
"""The kernel gives every pod such an address; no policy can select it."""
_ADDRESS = {"ingress": "saddr", "egress": "daddr"}
_ENDED = {"Succeeded", "Failed"}


@dataclass(frozen=True)
class PolicyPod:
    """A pod with an address of its own, or a program of the node that policies select like a pod."""

    namespace: str
    labels: Json
    address: str
    ports: tuple[tuple[str, str, int], ...] = ()
    """Name, protocol and number of the container ports."""
    shares_address: bool = False
    """Other programs have the same address; only ``ports`` belong to this one."""

    def numbers(self, name: str, protocol: str) -> list[int]:
        """The numbers of a named port."""
        return sorted({number for known, kind, number in self.ports if (known, kind) == (name, protocol)})


def pods_of(items: Iterable[Json]) -> list[PolicyPod]:
    """The running pods; a pod in the host's network or without an address is none."""
    pods = []
    for item in items:
        spec, status = item["spec"], item["status"]
        if spec.get("hostNetwork") or status.get("phase") in _ENDED or not status.get("podIP"):
            continue
        ports = (port for container in spec["containers"] for port in container.get("ports", ()))
        named = tuple((port.get("name", ""), port.get("protocol", "TCP"), port["containerPort"]) for port in ports)
        metadata = item["metadata"]
        pods.append(PolicyPod(metadata["namespace"], metadata.get("labels", {}), status["podIP"], named))
    return pods


def matches(selector: Json, labels: Json) -> bool:
    """Whether a label selector selects labels; an empty one selects all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        key, values = expression["key"], expression.get("values", ())
        accepted = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[expression["operator"]]
        if not accepted:
            return False
    return True


def ruleset(
    policies: Collection[Json],
    pods: Sequence[PolicyPod],
    namespaces: dict[str, Json],
    *,
    pod_range: str,
    node_address: str,
    services: Sequence[PolicyPod] = (),
) -> str:
    """The input of ``nft -f``, which replaces the table of an earlier state in one transaction.

    ``namespaces`` are labels by name; ``services`` are programs of the node that policies select like pods. Addresses
    in ``pod_range`` that belong to no pod in ``pods`` are those of pods that just start. They can only resolve names:
    a pod must not run before its policies apply.
    """
    jumps: dict[Direction, list[str]] = {"egress": [], "ingress": []}
    chains: list[str] = []
    for direction, found in jumps.items():
        own, other = ("saddr", "daddr") if direction == "egress" else ("daddr", "saddr")
        for pod in sorted(pods, key=lambda pod: pod.address):
            selecting = [policy for policy in policies if _selects(policy, pod, direction)]
            if not selecting:
                continue
            name = f"{direction}_{pod.address.replace('.', '_')}"
            # A pod always reaches itself, also through a Service.
            found.append(f"ip {own} {pod.address} ip {other} != {pod.address} jump {name}")
            peers = [*pods, *services]
            rules = [rule for policy in selecting for rule in _rules(policy, direction, pod, peers, namespaces)]
            chains.append(_chain(name, [*(f"{rule} return" for rule in rules), "drop"]))
    established = "ct state established,related accept"
    known = ", ".join(sorted({node_address, *(pod.address for pod in pods)}))
    sender, receiver = (f"ip {each} {pod_range} ip {each} != {{ {known} }}" for each in ("saddr", "daddr"))
    always = [established, LINK_LOCAL]
    forward = [*always, f"{sender} drop", f"{receiver} drop", *jumps["egress"], *jumps["ingress"]]
    # What a pod sends to the node: requests to the API server and the DNS server.
    received = [*always, f"{sender} udp dport != 53 drop", f"{sender} meta l4proto != udp drop", *jumps["egress"]]
    for hook, rules in (("forward", forward), ("input", received)):
        chains.append(_chain(hook, [f"type filter hook {hook} priority filter; policy accept;", *rules]))
    return f"table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{''.join(chains)}}}\n"


def _chain(name: str, rules: Iterable[str]) -> str:
    return f"chain {name} {{\n" + "".join(f"  {rule}\n" for rule in rules) + "}\n"


def _selects(policy: Json, pod: PolicyPod, direction: Direction) -> bool:
    """Whether a policy restricts a pod in a direction."""
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    applies = policy["metadata"]["namespace"] == pod.namespace and direction.capitalize() in types
    return applies and matches(spec.get("podSelector") or {}, pod.labels)


def _rules(
    policy: Json, direction: Direction, pod: PolicyPod, pods: Sequence[PolicyPod], namespaces: dict[str, Json]
) -> Iterator[str]:
    """The expressions of the connections that a policy allows."""
    for rule in policy["spec"].get(direction) or ():
        peers = rule.get("from" if direction == "ingress" else "to")
        ports = rule.get("ports")
        if not peers:
            yield from _to_any("", ports, direction, pod, pods)
            continue
        for peer in peers:
            if "ipBlock" in peer:
                if (block := _block(peer["ipBlock"], direction)) is not None:
                    yield from _to_any(block, ports, direction, pod, pods)
                continue
            where = policy["metadata"]["namespace"]
            for other in _peers(peer, where, pods, namespaces):
                target = pod if direction == "ingress" else other
                yield from _to_pod(f"ip {_ADDRESS[direction]} {other.address} ", ports, target)


def _peers(peer: Json, where: str, pods: Sequence[PolicyPod], namespaces: dict[str, Json]) -> Iterator[PolicyPod]:
    """The pods that a peer selects: of the policy's namespace, or of the namespaces that it selects."""
    selector = peer.get("namespaceSelector")
    for pod in pods:
        in_namespace = (
            pod.namespace == where if selector is None else matches(selector, namespaces.get(pod.namespace, {}))
        )
        if in_namespace and matches(peer.get("podSelector") or {}, pod.labels):
            yield pod


def _block(block: Json, direction: Direction) -> str | None:
    """The expression of a block of addresses; None for IPv6, which pods do not have."""
    network = ip_network(block["cidr"], strict=False)
    if not isinstance(network, IPv4Network):
        return None
    address = f"ip {_ADDRESS[direction]}"
    excluded = ", ".join(str(ip_network(each, strict=False)) for each in block.get("except") or ())
    return f"{address} {network} " + (f"{address} != {{ {excluded} }} " if excluded else "")


def _to_any(
    expression: str, ports: Sequence[Json] | None, direction: Direction, pod: PolicyPod, pods: Sequence[PolicyPod]
) -> Iterator[str]:
    """The expressions of connections that no pod's address restricts; a named port is that of each pod with it."""
    numbered = [each for each in ports or () if not isinstance(each.get("port"), str)]
    if not ports or numbered:
        yield from _to_pod(expression, numbered, pod)
    if named := [each for each in ports or () if isinstance(each.get("port"), str)]:
        for target in [pod] if direction == "ingress" else pods:
            to_target = f"{expression}ip daddr {target.address} " if direction == "egress" else expression
            yield from _to_pod(to_target, named, target)


def _to_pod(expression: str, ports: Sequence[Json] | None, target: PolicyPod) -> Iterator[str]:
    """The expression for each of the ports; a named one is that of the target."""
    if target.shares_address:
        for name, protocol, number in target.ports:
            if not ports or any(_covers(each, name, protocol, number) for each in ports):
                yield f"{expression}{protocol.lower()} dport {number}"
        return
    if not ports:
        yield expression.rstrip()
        return
    for each in ports:
        protocol, port = each.get("protocol", "TCP"), each.get("port")
        if port is None:
            yield f"{expression}meta l4proto {protocol.lower()}"
        elif isinstance(port, int):
            last = f"-{each['endPort']}" if each.get("endPort") else ""
            yield f"{expression}{protocol.lower()} dport {port}{last}"
        else:
            for number in target.numbers(port, protocol):
                yield f"{expression}{protocol.lower()} dport {number}"


def _covers(port: Json, name: str, protocol: str, number: int) -> bool:
    """Whether a policy's port entry contains a port."""
    if port.get("protocol", "TCP") != protocol:
        return False
    first = port.get("port")
    return first is None or first == name or (isinstance(first, int) and first <= number <= port.get("endPort", first))
