"""Operators killed among five hundred projects in every phase: rows 20 and 21 of the fault matrix."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.bed.cluster_api import apply
from tests.bench.cluster import counting
from tests.integration.cluster.installed import guide
from tests.integration.cluster.loosened import loosened
from tests.integration.cluster.operating import Operators, becomes, pool, project, wish
from tests.integration.cluster.quota_watch import QuotaWatch
from tests.integration.cluster.waiting import eventually

from windlass.kube.client import Client
from windlass.kube.objects import Object, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, PROJECT, WORKLOAD

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
Json = dict[str, Any]
SETTLED = [f"settled-{number}" for number in range(30)]
ENDING = SETTLED[:10]
"""Deleted while the process is killed."""
BUSY = SETTLED[10:25]
"""With a workload that holds quota."""
HALF = [f"half-{number}" for number in range(25)]
NEW = [f"new-{number}" for number in range(25)]
MALFORMED = [f"odd-{number}" for number in range(420)]
LASTING = [*SETTLED[10:], *HALF, *NEW]
NOMINAL = 3


def spec(**fields: Any) -> Json:
    return {"quotas": [{"pool": "a100", "nominal": NOMINAL}], "cohort": "many", **fields}


def create(client: Client, names: Sequence[str], **fields: Any) -> None:
    with ThreadPoolExecutor(4) as threads:
        wishes = [wish(PROJECT, name, spec(**fields)) for name in names]
        list(threads.map(lambda one: client.create(one, manager="test"), wishes))


def reasons(client: Client, names: Sequence[str]) -> Counter[str]:
    """How many of the projects say what, of their present generation."""
    found: Counter[str] = Counter()
    known = {one["metadata"]["name"]: one for one in client.list(PROJECT).items}
    for name in names:
        one = known.get(name, {})
        said = [each for each in one.get("status", {}).get("conditions", ()) if each["type"] == "Ready"]
        found[said[0]["reason"] if said else ""] += 1
    return found


def all_say(client: Client, names: Sequence[str], reason: str, seconds: float = 240) -> None:
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


def admissions(client: Client) -> dict[str, tuple[str, str, str]]:
    """Of each workload its uid, and since when and in which queue it holds its quota."""
    found = {}
    for one in client.list(WORKLOAD).items:
        for said in one.get("status", {}).get("conditions", ()):
            if said["type"] == "Admitted" and said["status"] == "True":
                queue = one["status"]["admission"]["clusterQueue"]
                found[one["metadata"]["namespace"]] = (one["metadata"]["uid"], said["lastTransitionTime"], queue)
    return found


@pytest.fixture
def watch(operator: Operators) -> Iterator[QuotaWatch]:
    with QuotaWatch(operator.client) as watching:
        yield watching


def test_a_killed_process_leaves_nothing_that_the_next_one_does_not_take_over(
    operator: Operators, watch: QuotaWatch
) -> None:
    client = operator.client
    apply(operator.bed, guide("pools.yaml"))
    becomes(client, pool("a100"), "Reconciled")
    for name in (*SETTLED, *HALF, *NEW):
        watch.allow(f"{name}.a100", NOMINAL)
    create(client, SETTLED)
    all_say(client, SETTLED, "Reconciled")
    for name in BUSY:
        client.create(workload(name), manager="test")
    eventually(lambda: len(admissions(client)) == len(BUSY), "their workloads are admitted", 60)
    held = admissions(client)
    probe = wish(PROJECT, "probe", spec(members="nobody"))
    with loosened(client, "projects.windlass.dev", probe):
        create(client, MALFORMED[::2], members="nobody")
        create(client, HALF)
        for name in ENDING:
            client.delete(project(name))
        eventually(lambda: begun(client) >= 5, "some of them are half applied", 60)
        operator.kill()
        assert reasons(client, HALF)["Reconciled"] < len(HALF), "not one of them is half applied"
        create(client, MALFORMED[1::2], members="nobody")
        create(client, NEW)
        watch.stays(*(Ref(NAMESPACE, f"wl-{name}") for name in LASTING))
        watch.stays(*(Ref(CLUSTER_QUEUE, f"{name}.a100") for name in LASTING))
        operator.start_active()
        all_say(client, LASTING, "Reconciled")
        all_say(client, MALFORMED, "Malformed")
        eventually(lambda: not known(client, ENDING), "those that were being deleted are gone", 120)
        assert watch.total == NOMINAL * len(LASTING)
        assert admissions(client) == held, "no workload was admitted anew"
        a_restart_writes_nothing(operator)
        assert admissions(client) == held
        for name in MALFORMED:
            client.delete(project(name))
        eventually(lambda: not known(client, MALFORMED), "the malformed ones can be deleted", 120)
    assert operator.count("a loop has crashed") == 0
    assert operator.count("a reconciliation crashed and is tried again") == 0


def begun(client: Client) -> int:
    return sum(one["metadata"]["name"].startswith("wl-half-") for one in client.list(NAMESPACE).items)


def known(client: Client, names: Sequence[str]) -> set[str]:
    return {one["metadata"]["name"] for one in client.list(PROJECT).items} & set(names)


def a_restart_writes_nothing(running: Operators) -> None:
    counting.settle(running)
    before = generations(running.client)
    running.stop()
    running.start_active()

    def settled() -> bool:
        _, text = running.ask("/metrics")
        done = re.search(r'windlass_reconciliations_total{kind="Project",outcome="ok"} (\S+)', text)
        return done is not None and float(done[1]) >= len(LASTING) + len(MALFORMED)

    eventually(settled, "each project had its turn", 120)
    assert counting.writes(running) == 0
    assert generations(running.client) == before


def generations(client: Client) -> dict[str, int]:
    """How often each queue's wish was changed."""
    found = client.list(CLUSTER_QUEUE, labels="app.kubernetes.io/managed-by=windlass").items
    return {one["metadata"]["name"]: one["metadata"]["generation"] for one in found}
