"""Operators killed with five hundred projects in every phase: rows 20 and 21 of the fault matrix."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.bench.cluster import operator_metrics
from tests.integration.cluster.installed import guide
from tests.integration.cluster.operator_process import OperatorProcess, desired, pool, project, wait_for_reason
from tests.integration.cluster.quota_watch import QuotaWatch
from tests.integration.cluster.relaxed_schema import relaxed_schema
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply

from windlass.kube.client import KubeClient
from windlass.kube.objects import Object, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, PROJECT, WORKLOAD

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
Json = dict[str, Any]
SETTLED = [f"settled-{number}" for number in range(30)]
DELETED = SETTLED[:10]
"""Being deleted when the process is killed."""
BUSY = SETTLED[10:25]
"""With an admitted workload."""
HALF = [f"half-{number}" for number in range(25)]
NEW = [f"new-{number}" for number in range(25)]
MALFORMED = [f"odd-{number}" for number in range(420)]
KEPT = [*SETTLED[10:], *HALF, *NEW]
NOMINAL = 3


def spec(**fields: Any) -> Json:
    return {"quotas": [{"pool": "a100", "nominal": NOMINAL}], "cohort": "many", **fields}


def create(client: KubeClient, names: Sequence[str], **fields: Any) -> None:
    with ThreadPoolExecutor(4) as threads:
        objects = [desired(PROJECT, name, spec(**fields)) for name in names]
        list(threads.map(lambda created: client.create(created, manager="test"), objects))


def reasons(client: KubeClient, names: Sequence[str]) -> Counter[str]:
    """The number of projects by Ready reason of their current generation."""
    found: Counter[str] = Counter()
    known = {one["metadata"]["name"]: one for one in client.list(PROJECT).items}
    for name in names:
        one = known.get(name, {})
        conditions = [each for each in one.get("status", {}).get("conditions", ()) if each["type"] == "Ready"]
        found[conditions[0]["reason"] if conditions else ""] += 1
    return found


def wait_for_reasons(client: KubeClient, names: Sequence[str], reason: str, seconds: float = 240) -> None:
    eventually(lambda: reasons(client, names)[reason] == len(names), f"{len(names)} are {reason}", seconds)


def workload(name: str) -> Object:
    amounts = {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "resources": amounts}]}}
    return {
        "apiVersion": WORKLOAD.api_version,
        "kind": WORKLOAD.kind,
        "metadata": {"name": "held", "namespace": f"wl-{name}"},
        "spec": {"queueName": "a100", "podSets": [{"name": "main", "count": 1, "template": template}]},
    }


def admissions(client: KubeClient) -> dict[str, tuple[str, str, str]]:
    """Uid, admission time and ClusterQueue of each admitted workload, by namespace."""
    found = {}
    for one in client.list(WORKLOAD).items:
        for condition in one.get("status", {}).get("conditions", ()):
            if condition["type"] == "Admitted" and condition["status"] == "True":
                queue = one["status"]["admission"]["clusterQueue"]
                found[one["metadata"]["namespace"]] = (one["metadata"]["uid"], condition["lastTransitionTime"], queue)
    return found


@pytest.fixture
def watch(operator: OperatorProcess) -> Iterator[QuotaWatch]:
    with QuotaWatch(operator.client) as watching:
        yield watching


def test_a_new_process_completes_what_a_killed_one_left(operator: OperatorProcess, watch: QuotaWatch) -> None:
    client = operator.client
    apply(operator.cluster, guide("pools.yaml"))
    wait_for_reason(client, pool("a100"), "Reconciled")
    for name in (*SETTLED, *HALF, *NEW):
        watch.allow(f"{name}.a100", NOMINAL)
    create(client, SETTLED)
    wait_for_reasons(client, SETTLED, "Reconciled")
    for name in BUSY:
        client.create(workload(name), manager="test")
    eventually(lambda: len(admissions(client)) == len(BUSY), "their workloads are admitted", 60)
    held = admissions(client)
    probe = desired(PROJECT, "probe", spec(members="nobody"))
    with relaxed_schema(client, "projects.windlass.dev", probe):
        create(client, MALFORMED[::2], members="nobody")
        create(client, HALF)
        for name in DELETED:
            client.delete(project(name))
        eventually(lambda: begun(client) >= 5, "some of them are half applied", 60)
        operator.kill()
        assert reasons(client, HALF)["Reconciled"] < len(HALF), "not one of them is half applied"
        create(client, MALFORMED[1::2], members="nobody")
        create(client, NEW)
        watch.expect_kept(*(Ref(NAMESPACE, f"wl-{name}") for name in KEPT))
        watch.expect_kept(*(Ref(CLUSTER_QUEUE, f"{name}.a100") for name in KEPT))
        operator.start_active()
        wait_for_reasons(client, KEPT, "Reconciled")
        wait_for_reasons(client, MALFORMED, "Malformed")
        eventually(lambda: not known(client, DELETED), "those that were being deleted are gone", 120)
        assert watch.total == NOMINAL * len(KEPT)
        assert admissions(client) == held, "no workload was admitted again"
        a_restart_writes_nothing(operator)
        assert admissions(client) == held
        for name in MALFORMED:
            client.delete(project(name))
        eventually(lambda: not known(client, MALFORMED), "the malformed ones can be deleted", 120)
    assert operator.count("a loop has crashed") == 0
    assert operator.count("a reconciliation crashed and is tried again") == 0


def begun(client: KubeClient) -> int:
    return sum(one["metadata"]["name"].startswith("wl-half-") for one in client.list(NAMESPACE).items)


def known(client: KubeClient, names: Sequence[str]) -> set[str]:
    return {one["metadata"]["name"] for one in client.list(PROJECT).items} & set(names)


def a_restart_writes_nothing(running: OperatorProcess) -> None:
    operator_metrics.wait_idle(running)
    before = generations(running.client)
    running.stop()
    running.start_active()

    def settled() -> bool:
        _, text = running.ask("/metrics")
        done = re.search(r'windlass_reconciliations_total{kind="Project",outcome="ok"} (\S+)', text)
        return done is not None and float(done[1]) >= len(KEPT) + len(MALFORMED)

    eventually(settled, "each project had its turn", 120)
    assert operator_metrics.writes(running) == 0
    assert generations(running.client) == before


def generations(client: KubeClient) -> dict[str, int]:
    """The number of spec changes of each queue."""
    found = client.list(CLUSTER_QUEUE, labels="app.kubernetes.io/managed-by=windlass").items
    return {one["metadata"]["name"]: one["metadata"]["generation"] for one in found}
