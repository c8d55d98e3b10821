"""Operators against a real API server with injected errors, delays and outages: rows 16 to 19 of the fault matrix."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from tests.charts.rendering import SYSTEM
from tests.integration.cluster.fault_proxy import Fault, FaultProxy, InjectedResponse, ProxiedRequest, refusal
from tests.integration.cluster.installed import WORKER, admin_client, fault_proxy, guide, queued_job
from tests.integration.cluster.operator_process import IMAGE, OperatorProcess, desired, project, ready, wait_for_reason
from tests.integration.cluster.quota_watch import QuotaWatch
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply
from tests.testcluster.layout import LocalCluster

from windlass.kube.client import KubeClient
from windlass.kube.names import FINALIZER
from windlass.kube.objects import Kind, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, POOL, PROJECT, WORKLOAD

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
Json = dict[str, Any]
SETTLE_SECONDS = 30
LEASE_SECONDS = "60"
"""Longer than the outages: with a shorter lease the process exits when it cannot renew."""


@pytest.fixture(scope="module")
def proxy(installed: LocalCluster) -> Iterator[FaultProxy]:
    with fault_proxy(installed) as running:
        yield running


class OperatorStarter:
    """One replica behind the proxy at a time, reused by tests with the same settings."""

    def __init__(self, cluster: LocalCluster, proxy: FaultProxy, folder: Path) -> None:
        self._cluster, self._proxy, self._folder = cluster, proxy, folder
        self._running: OperatorProcess | None = None
        self._resync = 0

    def __call__(self, resync: int, *, restart: bool = False) -> OperatorProcess:
        """Return operators with a resync interval in seconds."""
        if self._running is None or restart or resync != self._resync:
            self.stop()
            self._resync = resync
            self._running = OperatorProcess(
                self._cluster,
                self._folder / "log",
                through=self._proxy.url,
                NAMESPACE=SYSTEM,
                IMAGE=IMAGE,
                LEADER_LEASE_SECONDS=LEASE_SECONDS,
                RESYNC_SECONDS=str(resync),
            )
            self._running.start_active()
        return self._running

    def stop(self) -> None:
        """Stop the operators and check that they ran until now."""
        if self._running:
            assert self._running.exit_code is None, self._running.log.read_text()[-4000:]
            assert self._running.count("a loop has crashed") == 0
            self._running.stop()
        self._running = None


@pytest.fixture(scope="module")
def start(
    installed: LocalCluster, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorStarter]:
    apply(installed, guide("pools.yaml"))
    starter = OperatorStarter(installed, proxy, tmp_path_factory.mktemp("faults"))
    yield starter
    starter.stop()


@pytest.fixture(scope="module")
def client(installed: LocalCluster) -> KubeClient:
    return admin_client(installed)


def quota(nominal: int, pool: str = "a100", **more: Any) -> Json:
    return {"quotas": [{"pool": pool, "nominal": nominal}], **more}


def nominal(client: KubeClient, queue: str) -> int:
    group = client.get(Ref(CLUSTER_QUEUE, queue))["spec"]["resourceGroups"][0]
    return int(group["flavors"][0]["resources"][0]["nominalQuota"])


def writes(proxy: FaultProxy, path: str, status: HTTPStatus) -> int:
    found = [one for one in proxy.passed if one.request.path.endswith(path) and one.status == status]
    return sum(one.request.method == "PATCH" for one in found)


def times(count: int, response: InjectedResponse, matches: Callable[[ProxiedRequest], bool]) -> Fault:
    """A rule that answers the first ``count`` matching requests."""
    left = [count]

    def rule(request: ProxiedRequest) -> InjectedResponse | None:
        if not left[0] or not matches(request):
            return None
        left[0] -= 1
        return response

    return rule


def patches(path: str) -> Callable[[ProxiedRequest], bool]:
    return lambda request: request.method == "PATCH" and request.path.endswith(path)


def test_conflicts_are_retried_and_the_users_spec_is_never_lost(
    start: OperatorStarter, proxy: FaultProxy, client: KubeClient
) -> None:
    """Row 16. The first conflict is real: another client writes the spec between our read and our write."""
    start(3600)
    spec = quota(3) | {"displayName": "as made", "members": [{"name": "ada", "role": "admin"}]}
    meanwhile = iter(["changed once", "changed twice"])

    def other_writer(request: ProxiedRequest) -> InjectedResponse | None:
        if patches("/projects/contended")(request) and (word := next(meanwhile, None)):
            client.patch(project("contended"), {"spec": {"displayName": word}}, manager="somebody")
        return None

    conflict = refusal(HTTPStatus.CONFLICT, "Conflict")
    with (
        proxy.fault(other_writer),
        proxy.fault(times(2, conflict, patches("/projects/contended/status"))),
        proxy.fault(times(2, conflict, patches("/clusterqueues/contended.a100"))),
    ):
        client.create(desired(PROJECT, "contended", spec), manager="test")
        wait_for_reason(client, project("contended"), "Reconciled", 60)
    # a reconciliation starts from the informer's store, which may be a version behind: then one more conflict follows
    assert 2 <= writes(proxy, "/projects/contended", HTTPStatus.CONFLICT) <= 10
    assert writes(proxy, "/projects/contended/status", HTTPStatus.CONFLICT) == 2
    assert writes(proxy, "/clusterqueues/contended.a100", HTTPStatus.CONFLICT) == 2
    found = client.get(project("contended"))
    assert FINALIZER in found["metadata"]["finalizers"]
    assert found["spec"]["displayName"] == "changed twice"
    assert (found["spec"]["quotas"], found["spec"]["members"][0]["name"]) == (spec["quotas"], "ada")
    assert nominal(client, "contended.a100") == 3


def test_an_expired_watch_is_restarted(start: OperatorStarter, proxy: FaultProxy, client: KubeClient) -> None:
    """Row 17. Without a resync in between: the watches must deliver the change."""
    start(3600)
    client.create(desired(PROJECT, "expired", quota(1)), manager="test")
    wait_for_reason(client, project("expired"), "Reconciled", 60)
    began = time.monotonic()
    assert proxy.expire() > 10
    eventually(lambda: sum(one.request.watches for one in proxy.since(began)) > 10, "they are begun again")
    client.patch(project("expired"), {"spec": quota(2)}, manager="test")
    eventually(lambda: nominal(client, "expired.a100") == 2, "the change is seen")


def outage(seconds: float) -> Fault:
    """Errors for two thirds of the time, then 429; lease requests pass."""
    began = time.monotonic()

    def rule(request: ProxiedRequest) -> InjectedResponse | None:
        passed = time.monotonic() - began
        if request.leases or passed > seconds:
            return None
        if passed < seconds * 2 / 3:
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError")
        return refusal(HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", retry_after=2)

    return rule


def test_a_failing_server_gets_few_requests_and_work_resumes_afterwards(
    start: OperatorStarter, proxy: FaultProxy, client: KubeClient
) -> None:
    """Row 18, with 24 seconds instead of a minute: every project has pending work."""
    seconds, names = 24.0, [f"patient-{number}" for number in range(SETTLE_SECONDS)]
    operators = start(3600)
    for name in names:
        client.create(desired(PROJECT, name, quota(1)), manager="test")
    for name in names:
        wait_for_reason(client, project(name), "Reconciled", 120)
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
            wait_for_reason(client, project(name), "Reconciled", 120)
    assert {nominal(client, f"{name}.a100") for name in names} == {2}
    assert operators.exit_code is None


def proxy_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def test_a_stalled_watch_delays_changes_at_most_until_the_next_resync(
    start: OperatorStarter, proxy: FaultProxy, client: KubeClient
) -> None:
    """Row 17. The connections stay open without events, as behind a router that dropped them."""
    resync = 5
    operators = start(resync)
    client.create(desired(PROJECT, "silent", quota(1)), manager="test")
    wait_for_reason(client, project("silent"), "Reconciled", 60)
    assert proxy.stall_watches() > 10
    client.patch(project("silent"), {"spec": quota(2)}, manager="test")
    eventually(lambda: nominal(client, "silent.a100") == 2, "the change is seen by looking", 6 * resync)
    assert "windlass_watch_missed_total 0.0" not in operators.ask("/metrics")[1]


def stale(lists: dict[str, bytes]) -> Fault:
    """Answer lists with the recorded responses, and block the watches."""

    def rule(request: ProxiedRequest) -> InjectedResponse | None:
        if request.watches:
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", retry_after=1)
        if request.method == "GET" and (text := lists.get(key_of(request))):
            return InjectedResponse(HTTPStatus.OK, text)
        return None

    return rule


def key_of(request: ProxiedRequest) -> str:
    return f"{request.path}?{request.query.get('labelSelector', '')}"


def test_a_stale_list_recreates_nothing_and_deletes_nothing(
    start: OperatorStarter, proxy: FaultProxy, client: KubeClient
) -> None:
    """Row 19. A new process reads the state before one project was deleted and another one grew."""
    lists: dict[str, bytes] = {}

    def record_list(request: ProxiedRequest, text: bytes) -> None:
        if request.method == "GET" and text.startswith(b"{") and "items" in json.loads(text):
            lists.setdefault(key_of(request), text)

    first = start(3600)
    for name in ("over", "grown"):
        client.create(desired(PROJECT, name, quota(2)), manager="test")
        wait_for_reason(client, project(name), "Reconciled", 60)
    job = Ref(Kind("batch/v1", "Job"), "brief", "wl-grown")
    admin_client(first.cluster, impersonate=WORKER).create(
        queued_job("grown", "brief", 1, run_for="2s"), manager="test"
    )
    eventually(lambda: bool(client.list(WORKLOAD, "wl-grown").items), "its workload is there")
    proxy.answered = record_list
    start(3600, restart=True)
    eventually(lambda: {f"/apis/windlass.dev/v1alpha1/{one}?" for one in ("projects", "gpupools")} <= set(lists), "")
    time.sleep(1)
    proxy.answered = lambda _request, _text: None
    client.delete(project("over"))
    both = [{"pool": "a100", "nominal": 4}, {"pool": "h100", "nominal": 1}]
    client.patch(project("grown"), {"spec": {"quotas": both}}, manager="test")
    eventually(lambda: client.find(project("over")) is None, "the project is gone", 60)
    eventually(lambda: client.find(Ref(NAMESPACE, "wl-over")) is None, "with its namespace", 60)
    wait_for_reason(client, project("grown"), "Reconciled", 60)
    eventually(lambda: bool(client.get(job).get("status", {}).get("succeeded")), "the job has ended", 60)
    start.stop()
    queues = [Ref(CLUSTER_QUEUE, f"grown.{pool}") for pool in ("a100", "h100")]
    with QuotaWatch(client) as watch:
        watch.allow("grown.a100", 4)
        watch.allow("grown.h100", 1)
        watch.expect_kept(Ref(NAMESPACE, "wl-grown"), *queues)
        watch.expect_deleted(Ref(NAMESPACE, "wl-over"), Ref(CLUSTER_QUEUE, "over.a100"))
        with proxy.fault(stale(lists)):
            third = start(5, restart=True)
            eventually(lambda: reconciliations(third) >= 4, "the stale objects are reconciled", 60)
            time.sleep(2)
        client.patch(project("grown"), {"spec": {"displayName": "seen again"}}, manager="test")
        wait_for_reason(client, project("grown"), "Reconciled", 90)
        row = client.get(project("grown"))["status"]
        eventually(lambda: client.get(project("grown"))["status"]["used"] == 0, f"the job is over: {row}")
    assert client.get(job)["status"]["succeeded"] == 1
    assert client.find(project("over")) is None


def reconciliations(running: OperatorProcess) -> int:
    lines = running.ask("/metrics")[1].splitlines()
    found = [line for line in lines if line.startswith('windlass_reconciliations_total{kind="Project"')]
    return sum(int(float(line.split()[-1])) for line in found)


def test_everything_can_be_deleted_afterwards(start: OperatorStarter, client: KubeClient) -> None:
    start(5)
    for kind in (PROJECT, POOL):
        for one in client.list(kind).items:
            client.delete(Ref.of(one))
    eventually(lambda: not client.list(PROJECT).items and not client.list(POOL).items, "all is gone", 120)
    assert ready(client, project("contended")) == ("", "", "")
