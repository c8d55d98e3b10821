"""The operators' process: killed, doubled, put to sleep."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bed.cluster_api import apply
from tests.bed.layout import Bed
from tests.integration.cluster.installed import SYSTEM, guide
from tests.integration.cluster.operating import LEASE_SECONDS, Operators, becomes, project, wish
from tests.integration.cluster.waiting import eventually

from windlass.kube.objects import Ref
from windlass_operators.kinds import CLUSTER_QUEUE, PROJECT
from windlass_operators.lease import LEASE
from windlass_operators.main import EXIT_LEASE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
LEASE_REF = Ref(LEASE, "windlass-operators", SYSTEM)


@pytest.fixture
def second(operator: Operators, tmp_path: Path) -> Iterator[Operators]:
    other = Operators(operator.bed, tmp_path / "second", NAMESPACE=SYSTEM)
    yield other
    other.stop()


def holder(running: Operators) -> str:
    return str(running.client.get(LEASE_REF)["spec"]["holderIdentity"])


def test_what_changed_while_it_was_dead_is_brought_about_afterwards(operator: Operators) -> None:
    client = operator.client
    apply(operator.bed, [*guide("pools.yaml"), *guide("projects.yaml")])
    becomes(client, project("search"), "Reconciled")
    operator.kill()
    client.delete(Ref(CLUSTER_QUEUE, "speech.h100"))
    client.patch(project("search"), {"spec": {"quotas": [{"pool": "a100", "nominal": 12}]}}, manager="test")
    apply(operator.bed, [wish(PROJECT, "late", {"quotas": [{"pool": "a100", "nominal": 1}]})])
    client.delete(project("ranking"))
    operator.start_active()
    for name in ("search", "speech", "late"):
        becomes(client, project(name), "Reconciled")
    eventually(lambda: client.find(Ref(CLUSTER_QUEUE, "speech.h100")) is not None, "the deleted queue is back")
    group, _ = client.get(Ref(CLUSTER_QUEUE, "search.a100"))["spec"]["resourceGroups"]
    assert str(group["flavors"][0]["resources"][0]["nominalQuota"]) == "12"
    eventually(lambda: client.find(project("ranking")) is None, "the deleted project is gone", 60)
    assert client.find(Ref(CLUSTER_QUEUE, "ranking.a100")) is None


def test_a_second_replica_waits_for_the_lease_and_takes_over(operator: Operators, second: Operators) -> None:
    first = holder(operator)
    second.start()
    eventually(lambda: second.count("waiting for the lease") == 1, "the second says that it waits")
    assert second.ask("/healthz")[0] == 200
    assert second.ask("/active") == (503, "waiting\n")
    time.sleep(2 * LEASE_SECONDS)
    assert holder(operator) == first
    assert second.count("active") == 0
    began = time.monotonic()
    operator.stop()
    eventually(lambda: second.count("active") == 1, "the second is active")
    assert time.monotonic() - began < 15
    assert holder(second) != first
    apply(second.bed, [wish(PROJECT, "handed-over", {})])
    becomes(second.client, project("handed-over"), "Reconciled")
    second.stop()
    operator.start_active()


def test_a_replica_that_slept_through_its_lease_ends_and_writes_no_more(operator: Operators, second: Operators) -> None:
    operator.signal(signal.SIGSTOP)
    second.start_active()
    apply(second.bed, [wish(PROJECT, "meanwhile", {"displayName": "first"})])
    becomes(second.client, project("meanwhile"), "Reconciled")
    operator.signal(signal.SIGCONT)
    assert operator.wait() == EXIT_LEASE
    assert operator.count("the lease is lost") == 1
    assert operator.count("a reconciliation crashed and is tried again") == 0
    second.stop()
    operator.start_active()


def test_it_says_what_is_wrong_with_its_start(installed: Bed, tmp_path: Path) -> None:
    wrong = Operators(installed, tmp_path / "wrong", NAMESPACE=SYSTEM, PORT="99999")
    with pytest.raises(AssertionError, match="WINDLASS_OPERATORS_PORT"):
        wrong.start()
    assert wrong.exit_code == 2
