"""Produces the state of every row of docs/reference/reasons-in-a-cluster.md, and checks its reason."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus

import pytest
from tests.factories.observations import observation
from tests.integration.cluster.api_objects import create, delete, object_path, patch
from tests.integration.cluster.cluster_scenario import ClusterScenario, share
from tests.integration.cluster.prediction.forms import BareWorkloads
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi
from tests.testcluster.layout import LocalCluster

from windlass.domain.jobs import Reason
from windlass.domain.quota import ResourceDemand
from windlass.kube.explain_job import explain_waiting_job
from windlass.kube.kueue.cluster_objects import RayJob
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import cluster_queue_of, namespace_of
from windlass_operators.render import gpu_pool

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def api(cluster: LocalCluster) -> Iterator[ClusterApi]:
    with ClusterApi(cluster) as client:
        yield client


@pytest.fixture
def scenario(api: ClusterApi, request: pytest.FixtureRequest) -> Iterator[ClusterScenario]:
    made = ClusterScenario(api, request.node.name.removeprefix("test_").replace("_", "-"))
    yield made
    made.clear()


def admitted(scenario: ClusterScenario, job: str) -> bool:
    return any(one.job == job and one.admitted for one in Workload.parse_all(scenario.seen(job)["workloads"]))


def test_not_queued(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    space = namespace_of(scenario.project("a"))
    assert scenario.until(f"{space}/unborn", "not_queued").context == {}


def test_quota_in_use(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    first = scenario.job("a", "first", 4)
    scenario.until_runs(first)
    reason = scenario.until(scenario.job("a", "second", 2), "waiting_for_quota")
    assert (reason.context["needed"], reason.context["free"], reason.context["position"]) == (2, 0, 1)


def test_behind_the_head(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    scenario.until_runs(scenario.job("a", "first", 3))
    head = scenario.job("a", "head", 2)
    scenario.until(head, "waiting_for_quota")
    # Kueue orders what was created in the same second by uid.
    time.sleep(1.05 - time.time() % 1)
    mine = scenario.job("a", "mine", 1)
    reason = scenario.until(mine, "behind_head_of_queue")
    assert (reason.context["position"], reason.context["ahead"], reason.context["free"]) == (2, head, 1)
    workload = scenario.workload(mine)
    assert workload is not None
    assert Workload.parse(workload).condition("QuotaReserved") is None


def test_ray_jobs(scenario: ClusterScenario) -> None:
    """A RayJob has several pod sets, of which only some request GPUs."""
    scenario.set_up(a=share(2))
    first = scenario.ray_job("a", "job-0123456789abcdefghjkmnpqrs-r1", 2)
    eventually(lambda: admitted(scenario, first), "it is admitted")
    second = scenario.ray_job("a", "job-zzzzzzzzzzabcdefghjkmnpqrs-r1", 1)
    reason = scenario.until(second, "waiting_for_quota")
    assert (reason.context["needed"], reason.context["free"], reason.context["position"]) == (1, 0, 1)
    time.sleep(1.05 - time.time() % 1)
    third = scenario.ray_job("a", "job-yyyyyyyyyyabcdefghjkmnpqrs-r1", 1)
    assert scenario.until(third, "waiting_for_quota").context["ahead"] == second


def test_larger_than_the_quota(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    reason = scenario.until(scenario.job("a", "huge", 6), "exceeds_max_quota")
    assert reason.context["limit"] == 4
    assert [change["kind"] for change in reason.context["suggestions"]] == ["reduce_gpus", "raise_nominal"]


def test_the_borrowing_limit(scenario: ClusterScenario) -> None:
    scenario.set_up(cohort=True, a=share(2, borrowing_limit=1), b=share(4))
    scenario.until_runs(scenario.job("a", "first", 2))
    reason = scenario.until(scenario.job("a", "second", 2), "borrowing_limit_reached")
    assert (reason.context["limit"], reason.context["position"], reason.action_by.value) == (1, 1, "admin")


def test_no_matching_nodes(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    job = scenario.job("a", "picky", 1, nodeSelector={"windlass.dev/pool": "h100"})
    assert "doesn't match node affinity" in scenario.until(job, "no_matching_nodes").context["detail"]


def test_a_stopped_queue(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    queue = object_path("ClusterQueue", cluster_queue_of(scenario.project("a"), scenario.name))
    patch(scenario.api, queue, {"spec": {"stopPolicy": "Hold"}})
    job = scenario.job("a", "early", 1)
    reason = scenario.until(job, "queue_stopped")
    assert reason.context == {"pool": scenario.name, "needed": 1}
    patch(scenario.api, queue, {"spec": {"stopPolicy": "None"}})
    scenario.until_runs(job)


def test_a_missing_pool(scenario: ClusterScenario) -> None:
    scenario.set_up(flavor=False, a=share(4))
    job = scenario.job("a", "early", 1)
    assert "ResourceFlavor" in scenario.until(job, "misconfigured").context["detail"]
    for one in gpu_pool.objects(scenario.pools[scenario.name]):
        create(scenario.api, one)
    scenario.until_runs(job)


def test_a_missing_queue(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    space = namespace_of(scenario.project("a"))
    job = scenario.job("a", "lost", 1)
    delete(scenario.api, object_path("LocalQueue", scenario.name, space))
    eventually(lambda: not scenario.api.items(object_path("LocalQueue", space=space)), "the queue is gone")
    gone = object_path("Job", job.split("/")[1], space)
    delete(scenario.api, gone, propagationPolicy="Foreground")
    eventually(lambda: scenario.workload(job) is None, "the first job is gone")
    reason = scenario.until(scenario.job("a", "homeless", 1), "misconfigured")
    assert scenario.name in reason.context["detail"]


def test_taken_back(scenario: ClusterScenario) -> None:
    scenario.set_up(cohort=True, a=share(4), b=share(4))
    mine = scenario.job("a", "borrower", 8)
    scenario.until_runs(mine)
    scenario.until_runs(scenario.job("b", "owner", 4))
    reason = scenario.until(mine, "preempted")
    assert (reason.context["by_project"], reason.context["cause"]) == (scenario.project("b"), "InCohortReclamation")
    eventually(lambda: "waits_for" in scenario.until(mine, "preempted").context, "it has stopped")
    reason = scenario.until(mine, "preempted")
    assert (reason.context["waits_for"], reason.context["position"]) == ("waiting_for_quota", 1)
    assert "back-owner" not in reason.model_dump_json()


def test_overtaken(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    mine = scenario.job("a", "slow", 4)
    scenario.until_runs(mine)
    urgent = scenario.job("a", "urgent", 4, priority=5)
    scenario.until_runs(urgent)
    eventually(lambda: "waits_for" in scenario.until(mine, "preempted").context, "it has stopped")
    reason = scenario.until(mine, "preempted")
    assert (reason.context["by_job"], reason.context["cause"]) == (urgent, "InClusterQueue")
    assert (reason.context["waits_for"], reason.context["free"]) == ("waiting_for_quota", 0)


def test_others_must_stop(scenario: ClusterScenario) -> None:
    """The borrower is a bare Workload: no controller evicts its pods, so that the owner keeps waiting."""
    scenario.set_up(cohort=True, a=share(4), b=share(4))
    space = namespace_of(scenario.project("a"))
    desired = {"project": scenario.project("a"), "pool": scenario.name, "gpus": 8, "queued_at": "2026-01-01T00:00:00Z"}
    borrower = ResourceDemand.model_validate({"job": f"{space}/{scenario.name}-bare"} | desired)
    BareWorkloads().submit(scenario.api, borrower)
    eventually(
        lambda: any(Workload.parse(one).admitted for one in scenario.api.items(object_path("Workload", space=space))),
        "the borrower is admitted",
    )
    reason = scenario.until(scenario.job("b", "owner", 4), "waiting_for_preempted")
    assert reason.context["terminating"] == 1
    assert "-bare" not in reason.model_dump_json()


def test_switched_off(scenario: ClusterScenario) -> None:
    scenario.set_up(a=share(4))
    job = scenario.job("a", "first", 1)
    scenario.until_runs(job)
    workload = scenario.workload(job)
    assert workload is not None
    path = object_path("Workload", workload["metadata"]["name"], workload["metadata"]["namespace"])
    patch(scenario.api, path, {"spec": {"active": False}})
    assert "deactivated" in scenario.until(job, "deactivated").context["detail"]


def test_no_image(scenario: ClusterScenario) -> None:
    scenario.set_up("real", a=share(4))
    job = scenario.job("a", "typo", 1, image="bed.local/nothing:v1")
    reason = scenario.until(job, "image_pull_failed", 60)
    assert (reason.context["image"], reason.context["node"]) == ("bed.local/nothing:v1", "testcluster")
    assert "bed.local/nothing:v1" in reason.context["detail"]


def test_no_room(scenario: ClusterScenario) -> None:
    """The quota is larger than any node."""
    scenario.set_up(a=share(16))
    reason = scenario.until(scenario.job("a", "wide", 9), "unschedulable")
    assert (reason.context["pods"], reason.context["unschedulable"]) == (1, 1)
    assert "nvidia.com/gpu" in reason.context["detail"]


def test_pods_that_are_never_ready(scenario: ClusterScenario) -> None:
    """After the timeout of waitForPodsReady the quota is free again."""
    scenario.set_up(a=share(16))
    job = scenario.job("a", "wide", 9)
    scenario.until(job, "unschedulable")
    behind = scenario.job("a", "behind", 8)
    scenario.until(behind, "waiting_for_quota")
    reason = scenario.until(job, "pods_not_ready", 420)
    assert reason.context["evictions"] == 1
    scenario.until_runs(behind)
    assert "retry_at" in scenario.until(job, "pods_not_ready").context


def test_pods_that_are_rejected(scenario: ClusterScenario) -> None:
    """KubeRay alone reports it, in the status of the RayJob."""
    scenario.set_up(a=share(4))
    space = namespace_of(scenario.project("a"))
    quotas = f"/api/v1/namespaces/{space}/resourcequotas"
    none = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    status, text = scenario.api.call("POST", quotas, none)
    assert status == HTTPStatus.CREATED, text
    try:
        name = "job-0123456789abcdefghjkmnpqrt-r1"
        job = scenario.ray_job("a", name, 1)
        eventually(lambda: admitted(scenario, job), "it is admitted")
        path = object_path("RayJob", name, space)

        def reason() -> Reason | None:
            return explain_waiting_job(observation(scenario.seen(job)), RayJob.parse(scenario.api.read(path) or {}))

        def rejected() -> bool:
            found = reason()
            return found is not None and found.code == "pods_not_created"

        eventually(rejected, "KubeRay reports it", 60)
        found = reason()
        assert found is not None
        assert "exceeded quota: none" in found.context["detail"]
    finally:
        delete(scenario.api, f"{quotas}/none")


def add_node(scenario: ClusterScenario, name: str, *, simulated: bool) -> None:
    """Add a node with 8 GPUs; without ``simulated`` it reports its status only once."""
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now}
    create(
        scenario.api,
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"} if simulated else {},
                "labels": {"windlass.dev/pool": scenario.name, "kubernetes.io/hostname": name},
            },
        },
    )
    status = {"capacity": amounts, "allocatable": amounts} | ({} if simulated else {"conditions": [ready]})
    patch(scenario.api, f"{object_path('Node', name)}/status", {"status": status})


def test_a_node_that_is_gone(scenario: ClusterScenario) -> None:
    scenario.set_up(scenario.name, a=share(4))
    add_node(scenario, "doomed", simulated=True)
    job = scenario.job("a", "first", 4)
    scenario.until_runs(job, 60)
    delete(scenario.api, object_path("Node", "doomed"))
    assert scenario.until(job, "node_lost", 60).context["node"] == "doomed"


def test_a_node_that_is_silent(scenario: ClusterScenario) -> None:
    """Without a kubelet its pod is reported as running once, and the node as lost after the grace period."""
    scenario.set_up(scenario.name, a=share(4))
    add_node(scenario, "silent", simulated=False)
    job = scenario.job("a", "first", 4)

    def placed() -> list[str]:
        return [pod["metadata"]["name"] for pod in scenario.seen(job)["pods"] if pod["spec"].get("nodeName")]

    eventually(lambda: bool(placed()), "the pod is given to the node", 60)
    path = f"/api/v1/namespaces/{job.split('/')[0]}/pods/{placed()[0]}/status"
    patch(scenario.api, path, {"status": {"phase": "Running"}})
    scenario.until_runs(job)
    assert scenario.until(job, "node_lost", 120).context["node"] == "silent"
    delete(scenario.api, object_path("Node", "silent"))
