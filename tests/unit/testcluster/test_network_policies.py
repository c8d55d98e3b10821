"""NetworkPolicies as rules of nftables."""

from typing import Any

import pytest
from tests.testcluster.network_policies import PolicyPod, matches, pods_of, ruleset

Json = dict[str, Any]
NAMESPACES = {"team": {"tier": "tenant"}, "system": {"tier": "system"}, "kube-system": {"tier": "kubernetes"}}
API = PolicyPod("system", {"app": "api"}, "10.244.0.10", (("internal", "TCP", 8742),))
HEAD = PolicyPod("team", {"role": "head"}, "10.244.0.11")
WORKER = PolicyPod("team", {"role": "worker"}, "10.244.0.12")
PODS = [API, HEAD, WORKER]
NODE = "10.244.0.1"
DNS = PolicyPod("kube-system", {"k8s-app": "kube-dns"}, NODE, (("dns", "UDP", 53),), shares_address=True)


def policy(selector: Json, *, where: str = "team", **spec: Any) -> Json:
    return {"metadata": {"namespace": where, "name": "p"}, "spec": {"podSelector": selector, **spec}}


def chains(*policies: Json) -> dict[str, list[str]]:
    """The rules of each chain."""
    found: dict[str, list[str]] = {}
    name = ""
    rules = ruleset(policies, PODS, NAMESPACES, pod_range="10.244.0.0/24", node_address=NODE, services=[DNS])
    for line in rules.splitlines():
        if line.startswith("chain "):
            name = line.split()[1]
            found[name] = []
        elif line.startswith("  "):
            found[name].append(line.strip())
    return found


def test_pods_that_no_policy_selects_have_no_rules() -> None:
    assert set(chains()) == {"forward", "input"}


def test_a_default_deny_drops_what_other_pods_send_and_what_the_pods_send() -> None:
    found = chains(policy({}, policyTypes=["Ingress", "Egress"]))
    assert found["ingress_10_244_0_11"] == ["drop"]
    assert found["egress_10_244_0_12"] == ["drop"]
    incoming = "ip daddr 10.244.0.11 ip saddr != 10.244.0.11 jump ingress_10_244_0_11"
    outgoing = "ip saddr 10.244.0.11 ip daddr != 10.244.0.11 jump egress_10_244_0_11"
    assert {incoming, outgoing} <= set(found["forward"])
    assert outgoing in found["input"]
    assert incoming not in found["input"]  # the node reaches every pod
    assert not any("10_244_0_10" in name for name in found)


def test_replies_pass_before_every_policy() -> None:
    found = chains(policy({}))
    assert found["forward"][1] == found["input"][1] == "ct state established,related accept"


def test_link_local_addresses_bypass_no_policy() -> None:
    found = chains()
    assert found["forward"][2] == found["input"][2] == "ip6 saddr fe80::/10 drop"


def test_without_types_a_policy_restricts_egress_only_if_it_has_rules_for_it() -> None:
    assert "egress_10_244_0_11" not in chains(policy({"matchLabels": {"role": "head"}}))
    assert "egress_10_244_0_11" in chains(policy({"matchLabels": {"role": "head"}}, egress=[]))


def test_a_peer_selects_pods_of_the_policys_namespace_or_of_the_selected_ones() -> None:
    own = {"podSelector": {"matchLabels": {"role": "worker"}}}
    system = {"namespaceSelector": {"matchLabels": {"tier": "system"}}}
    found = chains(policy({"matchLabels": {"role": "head"}}, ingress=[{"from": [own, system]}]))
    assert found["ingress_10_244_0_11"] == ["ip saddr 10.244.0.12 return", "ip saddr 10.244.0.10 return", "drop"]


def test_rules_of_several_policies_add_up() -> None:
    found = chains(
        policy({}, ingress=[{"ports": [{"port": 80}]}]), policy({}, ingress=[{"ports": [{"port": 90, "endPort": 99}]}])
    )
    assert found["ingress_10_244_0_12"] == ["tcp dport 80 return", "tcp dport 90-99 return", "drop"]


def test_a_named_port_is_that_of_the_pod_that_is_connected_to() -> None:
    api = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "api"}}}
    found = chains(policy({"matchLabels": {"role": "head"}}, egress=[{"to": [api], "ports": [{"port": "internal"}]}]))
    assert found["egress_10_244_0_11"] == ["ip daddr 10.244.0.10 tcp dport 8742 return", "drop"]


def test_a_named_port_of_any_peer_is_that_of_each_pod_that_has_it() -> None:
    found = chains(policy({"matchLabels": {"role": "head"}}, egress=[{"ports": [{"port": "internal"}, {"port": 80}]}]))
    assert found["egress_10_244_0_11"] == [
        "tcp dport 80 return",
        "ip daddr 10.244.0.10 tcp dport 8742 return",
        "drop",
    ]


@pytest.mark.parametrize("ports", [None, [{"protocol": "UDP", "port": 53}], [{"protocol": "UDP"}, {"port": 6443}]])
def test_a_peer_that_selects_a_program_of_the_node_selects_none_of_its_other_ports(ports: list[Json] | None) -> None:
    rule: Json = {"to": [{"namespaceSelector": {"matchLabels": {"tier": "kubernetes"}}}]}
    found = chains(policy({}, egress=[rule | ({"ports": ports} if ports else {})]))
    assert found["egress_10_244_0_11"] == [f"ip daddr {NODE} udp dport 53 return", "drop"]


def test_addresses_of_no_known_pod_can_only_resolve_names() -> None:
    found = chains()
    known = "{ 10.244.0.1, 10.244.0.10, 10.244.0.11, 10.244.0.12 }"
    sender = f"ip saddr 10.244.0.0/24 ip saddr != {known}"
    assert found["forward"][3:] == [f"{sender} drop", f"ip daddr 10.244.0.0/24 ip daddr != {known} drop"]
    assert found["input"][3:] == [f"{sender} udp dport != 53 drop", f"{sender} meta l4proto != udp drop"]


def test_a_block_of_ipv6_addresses_allows_nothing() -> None:
    block = {"ipBlock": {"cidr": "2001:db8::/32"}}
    assert chains(policy({}, egress=[{"to": [block]}]))["egress_10_244_0_11"] == ["drop"]


def test_a_block_of_addresses_has_exceptions_and_a_protocol_without_port_means_all_ports() -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.0.0/24"]}}
    found = chains(policy({}, egress=[{"to": [block], "ports": [{"protocol": "UDP"}]}]))
    expected = "ip daddr 10.0.0.0/8 ip daddr != { 10.244.0.0/24 } meta l4proto udp return"
    assert found["egress_10_244_0_11"] == [expected, "drop"]


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "role", "operator": "In", "values": ["head"]}, True),
        ({"key": "role", "operator": "NotIn", "values": ["head"]}, False),
        ({"key": "role", "operator": "Exists"}, True),
        ({"key": "role", "operator": "DoesNotExist"}, False),
        ({"key": "other", "operator": "NotIn", "values": ["head"]}, True),
    ],
)
def test_an_expression_selects_labels(expression: Json, selected: bool) -> None:
    assert matches({"matchExpressions": [expression]}, {"role": "head"}) is selected


def test_ended_pods_and_pods_in_the_hosts_network_are_no_subjects() -> None:
    def item(name: str, phase: str = "Running", **spec: Any) -> Json:
        return {
            "metadata": {"namespace": "team", "name": name, "labels": {"name": name}},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 80}]}], **spec},
            "status": {"phase": phase, "podIP": "10.244.0.20"},
        }

    starting = item("starting", "Pending") | {"status": {"phase": "Pending"}}
    pods = pods_of([item("runs"), item("ended", "Succeeded"), item("host", hostNetwork=True), starting])
    assert pods == [PolicyPod("team", {"name": "runs"}, "10.244.0.20", (("http", "TCP", 80),))]
