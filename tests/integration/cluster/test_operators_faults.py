"""Operators and a real API server that answers wrongly, late, or not at all: rows 16 to 19 of the fault matrix."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from tests.bed.cluster_api import apply
from tests.bed.layout import Bed
from tests.integration.cluster.fault_proxy import Answer, Fault, FaultProxy, Request, refusal
from tests.integration.cluster.installed import SYSTEM, WORKER, admin_of, guide, proxy_of, queued_job
from tests.integration.cluster.operating import IMAGE, Operators, becomes, project, ready, wish
from tests.integration.cluster.quota_watch import QuotaWatch
from tests.integration.cluster.waiting import eventually

from windlass.kube.client import Client
from windlass.kube.names import FINALIZER
from windlass.kube.objects import Kind, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, POOL, PROJECT, WORKLOAD

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
Json = dict[str, Any]
SETTLED = 30
LEASE_SECONDS = "60"
"""An outage shall be sat out here: with less the process ends when it cannot renew, and another one begins."""


@pytest.fixture(scope="module")
def proxy(installed: Bed) -> Iterator[FaultProxy]:
    with proxy_of(installed) as running:
        yield running


class Starting:
    """One replica behind the proxy at a time, kept from test to test where it may be."""

    def __init__(self, bed: Bed, proxy: FaultProxy, folder: Path) -> None:
        self._bed, self._proxy, self._folder = bed, proxy, folder
        self._running: Operators | None = None
        self._resync = 0

    def __call__(self, resync: int, *, anew: bool = False) -> Operators:
        """Return operators that look at everything each so many seconds."""
        if self._running is None or anew or resync != self._resync:
            self.stop()
            self._resync = resync
            self._running = Operators(
                self._bed,
                self._folder / "log",
                through=self._proxy.url,
                NAMESPACE=SYSTEM,
                IMAGE=IMAGE,
                LEASE_SECONDS=LEASE_SECONDS,
                RESYNC_SECONDS=str(resync),
            )
            self._running.start_active()
        return self._running

    def stop(self) -> None:
        """Let it give its lease back; that it still ran is part of each test."""
        if self._running:
            assert self._running.exit_code is None, self._running.log.read_text()[-4000:]
            assert self._running.count("a loop has crashed") == 0
            self._running.stop()
        self._running = None


@pytest.fixture(scope="module")
def start(installed: Bed, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starting]:
    apply(installed, guide("pools.yaml"))
    starting = Starting(installed, proxy, tmp_path_factory.mktemp("faults"))
    yield starting
    starting.stop()


@pytest.fixture(scope="module")
def client(installed: Bed) -> Client:
    return admin_of(installed)


def quota(nominal: int, pool: str = "a100", **more: Any) -> Json:
    return {"quotas": [{"pool": pool, "nominal": nominal}], **more}


def nominal(client: Client, queue: str) -> int:
    group = client.get(Ref(CLUSTER_QUEUE, queue))["spec"]["resourceGroups"][0]
    return int(group["flavors"][0]["resources"][0]["nominalQuota"])


def writes(proxy: FaultProxy, path: str, status: HTTPStatus) -> int:
    found = [one for one in proxy.passed if one.request.path.endswith(path) and one.status == status]
    return sum(one.request.method == "PATCH" for one in found)


def times(count: int, answer: Answer, concerns: Callable[[Request], bool]) -> Fault:
    """Answer so many requests that a rule concerns."""
    left = [count]

    def rule(request: Request) -> Answer | None:
        if not left[0] or not concerns(request):
            return None
        left[0] -= 1
        return answer

    return rule


def patches(path: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "PATCH" and request.path.endswith(path)


def test_a_conflict_is_read_and_applied_again_and_the_users_wish_is_never_lost(
    start: Starting, proxy: FaultProxy, client: Client
) -> None:
    """Row 16. The first conflict is a real one: somebody writes the spec between our reading and our writing."""
    start(3600)
    spec = quota(3) | {"displayName": "as made", "members": [{"name": "ada", "role": "owner"}]}
    meanwhile = iter(["changed once", "changed twice"])

    def somebody_else(request: Request) -> Answer | None:
        if patches("/projects/contended")(request) and (word := next(meanwhile, None)):
            client.patch(project("contended"), {"spec": {"displayName": word}}, manager="somebody")
        return None

    conflict = refusal(HTTPStatus.CONFLICT, "Conflict")
    with (
        proxy.fault(somebody_else),
        proxy.fault(times(2, conflict, patches("/projects/contended/status"))),
        proxy.fault(times(2, conflict, patches("/clusterqueues/contended.a100"))),
    ):
        client.create(wish(PROJECT, "contended", spec), manager="test")
        becomes(client, project("contended"), "Reconciled", 60)
    # a turn begins with what the watch has told, which may be a version behind: then there is one more, and no storm
    assert 2 <= writes(proxy, "/projects/contended", HTTPStatus.CONFLICT) <= 10
    assert writes(proxy, "/projects/contended/status", HTTPStatus.CONFLICT) == 2
    assert writes(proxy, "/clusterqueues/contended.a100", HTTPStatus.CONFLICT) == 2
    found = client.get(project("contended"))
    assert FINALIZER in found["metadata"]["finalizers"]
    assert found["spec"]["displayName"] == "changed twice"
    assert (found["spec"]["quotas"], found["spec"]["members"][0]["name"]) == (spec["quotas"], "ada")
    assert nominal(client, "contended.a100") == 3


def test_a_watch_whose_version_is_gone_begins_anew(start: Starting, proxy: FaultProxy, client: Client) -> None:
    """Row 17. No look at everything comes to help: the watches themselves must bring the change."""
    start(3600)
    client.create(wish(PROJECT, "expired", quota(1)), manager="test")
    becomes(client, project("expired"), "Reconciled", 60)
    began = time.monotonic()
    assert proxy.expire() > 10
    eventually(lambda: sum(one.request.watches for one in proxy.since(began)) > 10, "they are begun again")
    client.patch(project("expired"), {"spec": quota(2)}, manager="test")
    eventually(lambda: nominal(client, "expired.a100") == 2, "the change is seen")


def outage(seconds: float) -> Fault:
    """Errors for two thirds of a time, and then too many requests; leases apart, which have a test of their own."""
    began = time.monotonic()

    def rule(request: Request) -> Answer | None:
        passed = time.monotonic() - began
        if request.leases or passed > seconds:
            return None
        if passed < seconds * 2 / 3:
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError")
        return refusal(HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", retry_after=2)

    return rule


def test_a_server_that_cannot_is_left_alone_and_all_is_done_when_it_can_again(
    start: Starting, proxy: FaultProxy, client: Client
) -> None:
    """Row 18, with 24 seconds for the minute: every project wants something all the time."""
    seconds, names = 24.0, [f"patient-{number}" for number in range(SETTLED)]
    operators = start(3600)
    for name in names:
        client.create(wish(PROJECT, name, quota(1)), manager="test")
    for name in names:
        becomes(client, project(name), "Reconciled", 120)
    began = time.monotonic()
    with proxy.fault(outage(seconds)):
        for name in names:  # the watches stay, so that the operators know of it
            client.patch(project(name), {"spec": quota(2)}, manager="test")
        proxy_until(began + seconds)
        refused = [one for one in proxy.since(began) if one.status >= HTTPStatus.TOO_MANY_REQUESTS]
        a_second = Counter(int(one.moment - began) for one in refused)
        assert len(refused) >= 3, "it went on trying"
        assert max(a_second.values()) <= 60, a_second
        assert len(refused) <= 8 * seconds, a_second
        for name in names:
            becomes(client, project(name), "Reconciled", 120)
    assert {nominal(client, f"{name}.a100") for name in names} == {2}
    assert operators.exit_code is None


def proxy_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def test_a_silent_watch_hides_nothing_for_longer_than_a_look_at_everything(
    start: Starting, proxy: FaultProxy, client: Client
) -> None:
    """Row 17. The connections stay open and bring nothing, as behind a router that forgot them."""
    resync = 5
    operators = start(resync)
    client.create(wish(PROJECT, "silent", quota(1)), manager="test")
    becomes(client, project("silent"), "Reconciled", 60)
    assert proxy.silence() > 10
    client.patch(project("silent"), {"spec": quota(2)}, manager="test")
    eventually(lambda: nominal(client, "silent.a100") == 2, "the change is seen by looking", 6 * resync)
    assert "windlass_watch_missed_total 0.0" not in operators.ask("/metrics")[1]


def stale(lists: dict[str, bytes]) -> Fault:
    """Answer each list as it was answered then, and keep the watches waiting."""

    def rule(request: Request) -> Answer | None:
        if request.watches:
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", retry_after=1)
        if request.method == "GET" and (text := lists.get(key_of(request))):
            return Answer(HTTPStatus.OK, text)
        return None

    return rule


def key_of(request: Request) -> str:
    return f"{request.path}?{request.query.get('labelSelector', '')}"


def test_an_old_list_brings_back_nothing_that_is_over_and_deletes_nothing_that_lives(
    start: Starting, proxy: FaultProxy, client: Client
) -> None:
    """Row 19. A new process is told how things stood before a project went and another one grew."""
    lists: dict[str, bytes] = {}

    def remember(request: Request, text: bytes) -> None:
        if request.method == "GET" and text.startswith(b"{") and "items" in json.loads(text):
            lists.setdefault(key_of(request), text)

    first = start(3600)
    for name in ("over", "grown"):
        client.create(wish(PROJECT, name, quota(2)), manager="test")
        becomes(client, project(name), "Reconciled", 60)
    job = Ref(Kind("batch/v1", "Job"), "brief", "wl-grown")
    admin_of(first.bed, impersonate=WORKER).create(queued_job("grown", "brief", 1, run_for="2s"), manager="test")
    eventually(lambda: bool(client.list(WORKLOAD, "wl-grown").items), "its workload is there")
    proxy.answered = remember
    start(3600, anew=True)
    eventually(lambda: {f"/apis/windlass.dev/v1alpha1/{one}?" for one in ("projects", "gpupools")} <= set(lists), "")
    time.sleep(1)
    proxy.answered = lambda _request, _text: None
    client.delete(project("over"))
    both = [{"pool": "a100", "nominal": 4}, {"pool": "h100", "nominal": 1}]
    client.patch(project("grown"), {"spec": {"quotas": both}}, manager="test")
    eventually(lambda: client.find(project("over")) is None, "the project is gone", 60)
    eventually(lambda: client.find(Ref(NAMESPACE, "wl-over")) is None, "with its namespace", 60)
    becomes(client, project("grown"), "Reconciled", 60)
    eventually(lambda: bool(client.get(job).get("status", {}).get("succeeded")), "the job has ended", 60)
    start.stop()
    queues = [Ref(CLUSTER_QUEUE, f"grown.{pool}") for pool in ("a100", "h100")]
    with QuotaWatch(client) as watch:
        watch.allow("grown.a100", 4)
        watch.allow("grown.h100", 1)
        watch.stays(Ref(NAMESPACE, "wl-grown"), *queues)
        watch.stays_gone(Ref(NAMESPACE, "wl-over"), Ref(CLUSTER_QUEUE, "over.a100"))
        with proxy.fault(stale(lists)):
            third = start(5, anew=True)
            eventually(lambda: looked(third) >= 4, "what it was told is looked at", 60)
            time.sleep(2)
        client.patch(project("grown"), {"spec": {"displayName": "seen again"}}, manager="test")
        becomes(client, project("grown"), "Reconciled", 90)
        row = client.get(project("grown"))["status"]
        eventually(lambda: client.get(project("grown"))["status"]["used"] == 0, f"the job is over: {row}")
    assert client.get(job)["status"]["succeeded"] == 1
    assert client.find(project("over")) is None


def looked(running: Operators) -> int:
    lines = running.ask("/metrics")[1].splitlines()
    found = [line for line in lines if line.startswith('windlass_reconciliations_total{kind="Project"')]
    return sum(int(float(line.split()[-1])) for line in found)


def test_everything_can_be_taken_down_afterwards(start: Starting, client: Client) -> None:
    start(5)
    for kind in (PROJECT, POOL):
        for one in client.list(kind).items:
            client.delete(Ref.of(one))
    eventually(lambda: not client.list(PROJECT).items and not client.list(POOL).items, "all is gone", 120)
    assert ready(client, project("contended")) == ("", "", "")
