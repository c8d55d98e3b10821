"""The operator process is killed, run twice, and suspended."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.charts.rendering import SYSTEM
from tests.integration.cluster.installed import guide
from tests.integration.cluster.operator_process import LEASE_SECONDS, OperatorProcess, desired, project, wait_for_reason
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply
from tests.testcluster.layout import LocalCluster

from windlass.kube.leader_election import LEASE
from windlass.kube.objects import Ref
from windlass_operators.kinds import CLUSTER_QUEUE, PROJECT
from windlass_operators.main import EXIT_LEASE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
LEASE_REF = Ref(LEASE, "windlass-operators", SYSTEM)


@pytest.fixture
def second(operator: OperatorProcess, tmp_path: Path) -> Iterator[OperatorProcess]:
    other = OperatorProcess(operator.cluster, tmp_path / "second", NAMESPACE=SYSTEM)
    yield other
    other.stop()


def holder(running: OperatorProcess) -> str:
    return str(running.client.get(LEASE_REF)["spec"]["holderIdentity"])


def test_changes_during_downtime_are_reconciled_after_a_restart(operator: OperatorProcess) -> None:
    client = operator.client
    apply(operator.cluster, [*guide("pools.yaml"), *guide("projects.yaml")])
    wait_for_reason(client, project("search"), "Reconciled")
    operator.kill()
    client.delete(Ref(CLUSTER_QUEUE, "speech.h100"))
    client.patch(project("search"), {"spec": {"quotas": [{"pool": "a100", "nominal": 12}]}}, manager="test")
    apply(operator.cluster, [desired(PROJECT, "late", {"quotas": [{"pool": "a100", "nominal": 1}]})])
    client.delete(project("ranking"))
    operator.start_active()
    for name in ("search", "speech", "late"):
        wait_for_reason(client, project(name), "Reconciled")
    eventually(lambda: client.find(Ref(CLUSTER_QUEUE, "speech.h100")) is not None, "the deleted queue is back")
    group, _ = client.get(Ref(CLUSTER_QUEUE, "search.a100"))["spec"]["resourceGroups"]
    assert str(group["flavors"][0]["resources"][0]["nominalQuota"]) == "12"
    eventually(lambda: client.find(project("ranking")) is None, "the deleted project is gone", 60)
    assert client.find(Ref(CLUSTER_QUEUE, "ranking.a100")) is None


def test_a_second_replica_waits_for_the_lease_and_takes_over(
    operator: OperatorProcess, second: OperatorProcess
) -> None:
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
    apply(second.cluster, [desired(PROJECT, "handed-over", {})])
    wait_for_reason(second.client, project("handed-over"), "Reconciled")
    second.stop()
    operator.start_active()


def test_a_replica_that_missed_its_lease_exits_without_writes(
    operator: OperatorProcess, second: OperatorProcess
) -> None:
    operator.signal(signal.SIGSTOP)
    second.start_active()
    apply(second.cluster, [desired(PROJECT, "meanwhile", {"displayName": "first"})])
    wait_for_reason(second.client, project("meanwhile"), "Reconciled")
    operator.signal(signal.SIGCONT)
    assert operator.wait() == EXIT_LEASE
    assert operator.count("the lease is lost") == 1
    assert operator.count("a reconciliation crashed and is tried again") == 0
    second.stop()
    operator.start_active()


def test_startup_errors_are_reported(installed: LocalCluster, tmp_path: Path) -> None:
    wrong = OperatorProcess(installed, tmp_path / "wrong", NAMESPACE=SYSTEM, PORT="99999")
    with pytest.raises(AssertionError, match="WINDLASS_OPERATORS_PORT"):
        wrong.start()
    assert wrong.exit_code == 2
