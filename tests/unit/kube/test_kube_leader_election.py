"""The renewal thread survives all errors. Two replicas and one lease: tests/integration/cluster."""

import threading

import pytest
from kubernetes.client import Configuration

from windlass.kube.client import KubeClient
from windlass.kube.leader_election import LEASE, LeaderLease
from windlass.kube.objects import Ref
from windlass.ports.leadership import NotLeaderError


def broken(_: Configuration) -> None:
    """An authentication plugin that raises an unexpected error."""
    raise RuntimeError("the plugin has crashed")


def test_failed_renewal_loses_the_lease_and_calls_back() -> None:
    configuration = Configuration()
    configuration.refresh_api_key_hook = broken
    configuration.api_key["authorization"] = "old"
    lease = LeaderLease(KubeClient(configuration), Ref(LEASE, "windlass-operators", "windlass-system"), "me", 0.05)
    lost = threading.Event()
    lease.renew(threading.Event(), lost.set)
    assert lost.is_set()
    with pytest.raises(NotLeaderError):
        lease.ensure_leader()
