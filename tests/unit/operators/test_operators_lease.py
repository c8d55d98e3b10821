"""The lease's thread outlives whatever a renewal meets. Two replicas and one lease: tests/integration/cluster."""

import threading

import pytest
from kubernetes.client import Configuration

from windlass.kube.client import Client
from windlass.kube.objects import Ref
from windlass_operators.lease import LEASE, Lease, LeaseLostError


def broken(_: Configuration) -> None:
    """A plugin that proves who we are, and breaks in a way that nobody has thought of."""
    raise RuntimeError("the plugin has crashed")


def test_a_renewal_that_breaks_is_none_and_the_loss_is_said() -> None:
    configuration = Configuration()
    configuration.refresh_api_key_hook = broken
    configuration.api_key["authorization"] = "old"
    lease = Lease(Client(configuration), Ref(LEASE, "windlass-operators", "windlass-system"), "me", 0.05)
    lost = threading.Event()
    lease.keep(threading.Event(), lost.set)
    assert lost.is_set()
    with pytest.raises(LeaseLostError):
        lease.check()
