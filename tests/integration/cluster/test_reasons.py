"""Every row of docs/reference/reasons-in-a-cluster.md: the state is produced on a real cluster, and its Reason read."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.bed.cluster_api import ClusterApi
from tests.bed.fixture import command
from tests.bed.layout import Bed
from tests.integration.cluster.prediction.forms import BareWorkloads
from tests.integration.cluster.stage import Stage, share
from tests.integration.cluster.waiting import eventually
from tests.integration.cluster.writing import create, delete, patch, path_of

from windlass.domain.quota import Claim
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import cluster_queue_of, namespace_of
from windlass_operators.render import gpu_pool

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def api(cluster: Bed) -> Iterator[ClusterApi]:
    with ClusterApi(cluster) as client:
        yield client
    ended = command(cluster, "reset")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def stage(api: ClusterApi, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(api, request.node.name.removeprefix("test_").replace("_", "-"))
    yield made
    made.clear()


def admitted(stage: Stage, job: str) -> bool:
    return any(one.job == job and one.admitted for one in Workload.parse_all(stage.seen(job)["workloads"]))


def test_not_queued(stage: Stage) -> None:
    stage.set_up(a=share(4))
    space = namespace_of(stage.project("a"))
    assert stage.until(f"{space}/unborn", "not_queued").facts == {}


def test_quota_in_use(stage: Stage) -> None:
    stage.set_up(a=share(4))
    first = stage.job("a", "first", 4)
    stage.until_runs(first)
    reason = stage.until(stage.job("a", "second", 2), "waiting_for_quota")
    assert (reason.facts["needed"], reason.facts["free"], reason.facts["position"]) == (2, 0, 1)


def test_behind_the_head(stage: Stage) -> None:
    stage.set_up(a=share(4))
    stage.until_runs(stage.job("a", "first", 3))
    head = stage.job("a", "head", 2)
    stage.until(head, "waiting_for_quota")
    # Kueue orders what was created in the same second by uid.
    time.sleep(1.05 - time.time() % 1)
    mine = stage.job("a", "mine", 1)
    reason = stage.until(mine, "behind_head_of_queue")
    assert (reason.facts["position"], reason.facts["ahead"], reason.facts["free"]) == (2, head, 1)
    workload = stage.workload(mine)
    assert workload is not None
    assert Workload.parse(workload).condition("QuotaReserved") is None


def test_ray_jobs(stage: Stage) -> None:
    """A RayJob has several pod sets, of which only some ask for GPUs; people know it by the job's id."""
    stage.set_up(a=share(2))
    first = stage.ray_job("a", "job-0123456789abcdefghjkmnpqrs-r1", 2)
    eventually(lambda: admitted(stage, first), "it is admitted")
    second = stage.ray_job("a", "job-zzzzzzzzzzabcdefghjkmnpqrs-r1", 1)
    reason = stage.until(second, "waiting_for_quota")
    assert (reason.facts["needed"], reason.facts["free"], reason.facts["position"]) == (1, 0, 1)
    time.sleep(1.05 - time.time() % 1)
    third = stage.ray_job("a", "job-yyyyyyyyyyabcdefghjkmnpqrs-r1", 1)
    assert stage.until(third, "waiting_for_quota").facts["ahead"] == second


def test_larger_than_the_quota(stage: Stage) -> None:
    stage.set_up(a=share(4))
    reason = stage.until(stage.job("a", "huge", 6), "exceeds_max_quota")
    assert reason.facts["limit"] == 4
    assert [change["kind"] for change in reason.facts["changes"]] == ["reduce_gpus", "raise_nominal"]


def test_the_borrowing_limit(stage: Stage) -> None:
    stage.set_up(cohort=True, a=share(2, borrowing_limit=1), b=share(4))
    stage.until_runs(stage.job("a", "first", 2))
    reason = stage.until(stage.job("a", "second", 2), "borrowing_limit_reached")
    assert (reason.facts["limit"], reason.facts["position"], reason.owner.value) == (1, 1, "admin")


def test_no_matching_nodes(stage: Stage) -> None:
    stage.set_up(a=share(4))
    job = stage.job("a", "picky", 1, nodeSelector={"windlass.dev/pool": "h100"})
    assert "doesn't match node affinity" in stage.until(job, "no_matching_nodes").facts["detail"]


def test_a_stopped_queue(stage: Stage) -> None:
    stage.set_up(a=share(4))
    queue = path_of("ClusterQueue", cluster_queue_of(stage.project("a"), stage.name))
    patch(stage.api, queue, {"spec": {"stopPolicy": "Hold"}})
    job = stage.job("a", "early", 1)
    reason = stage.until(job, "queue_stopped")
    assert reason.facts == {"pool": stage.name, "needed": 1}
    patch(stage.api, queue, {"spec": {"stopPolicy": "None"}})
    stage.until_runs(job)


def test_a_missing_pool(stage: Stage) -> None:
    stage.set_up(flavor=False, a=share(4))
    job = stage.job("a", "early", 1)
    assert "ResourceFlavor" in stage.until(job, "misconfigured").facts["detail"]
    for one in gpu_pool.objects(stage.pools[stage.name]):
        create(stage.api, one)
    stage.until_runs(job)


def test_a_missing_queue(stage: Stage) -> None:
    stage.set_up(a=share(4))
    space = namespace_of(stage.project("a"))
    job = stage.job("a", "lost", 1)
    delete(stage.api, path_of("LocalQueue", stage.name, space))
    eventually(lambda: not stage.api.items(path_of("LocalQueue", space=space)), "the queue is gone")
    gone = path_of("Job", job.split("/")[1], space)
    delete(stage.api, gone, propagationPolicy="Foreground")
    eventually(lambda: stage.workload(job) is None, "the first job is gone")
    reason = stage.until(stage.job("a", "homeless", 1), "misconfigured")
    assert stage.name in reason.facts["detail"]


def test_taken_back(stage: Stage) -> None:
    stage.set_up(cohort=True, a=share(4), b=share(4))
    mine = stage.job("a", "borrower", 8)
    stage.until_runs(mine)
    stage.until_runs(stage.job("b", "owner", 4))
    reason = stage.until(mine, "preempted")
    assert (reason.facts["by_project"], reason.facts["cause"]) == (stage.project("b"), "InCohortReclamation")
    eventually(lambda: "waits_for" in stage.until(mine, "preempted").facts, "it has stopped")
    reason = stage.until(mine, "preempted")
    assert (reason.facts["waits_for"], reason.facts["position"]) == ("waiting_for_quota", 1)
    assert "back-owner" not in reason.model_dump_json()


def test_overtaken(stage: Stage) -> None:
    stage.set_up(a=share(4))
    mine = stage.job("a", "slow", 4)
    stage.until_runs(mine)
    urgent = stage.job("a", "urgent", 4, priority=5)
    stage.until_runs(urgent)
    eventually(lambda: "waits_for" in stage.until(mine, "preempted").facts, "it has stopped")
    reason = stage.until(mine, "preempted")
    assert (reason.facts["by_job"], reason.facts["cause"]) == (urgent, "InClusterQueue")
    assert (reason.facts["waits_for"], reason.facts["free"]) == ("waiting_for_quota", 0)


def test_others_must_stop(stage: Stage) -> None:
    """The borrower is a bare Workload: nobody stops it, so that the owner goes on waiting for that."""
    stage.set_up(cohort=True, a=share(4), b=share(4))
    space = namespace_of(stage.project("a"))
    wish = {"project": stage.project("a"), "pool": stage.name, "gpus": 8, "queued_at": "2026-01-01T00:00:00Z"}
    borrower = Claim.model_validate({"job": f"{space}/{stage.name}-bare"} | wish)
    BareWorkloads().submit(stage.api, borrower)
    eventually(
        lambda: any(Workload.parse(one).admitted for one in stage.api.items(path_of("Workload", space=space))),
        "the borrower is admitted",
    )
    reason = stage.until(stage.job("b", "owner", 4), "waiting_for_preempted")
    assert reason.facts["leaving"] == 1
    assert "-bare" not in reason.model_dump_json()


def test_switched_off(stage: Stage) -> None:
    stage.set_up(a=share(4))
    job = stage.job("a", "first", 1)
    stage.until_runs(job)
    workload = stage.workload(job)
    assert workload is not None
    path = path_of("Workload", workload["metadata"]["name"], workload["metadata"]["namespace"])
    patch(stage.api, path, {"spec": {"active": False}})
    assert "deactivated" in stage.until(job, "deactivated").facts["detail"]


def test_no_image(stage: Stage) -> None:
    stage.set_up("real", a=share(4))
    job = stage.job("a", "typo", 1, image="bed.local/nothing:v1")
    reason = stage.until(job, "image_pull_failed", 60)
    assert (reason.facts["image"], reason.facts["node"]) == ("bed.local/nothing:v1", "bed")
    assert "bed.local/nothing:v1" in reason.facts["detail"]


def test_no_room(stage: Stage) -> None:
    """The quota promises more than any node has."""
    stage.set_up(a=share(16))
    reason = stage.until(stage.job("a", "wide", 9), "unschedulable")
    assert (reason.facts["pods"], reason.facts["unschedulable"]) == (1, 1)
    assert "nvidia.com/gpu" in reason.facts["detail"]


def add_node(stage: Stage, name: str, *, played: bool) -> None:
    """Add a node with 8 GPUs; what is not ``played`` reports once, and never again."""
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now}
    create(
        stage.api,
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"} if played else {},
                "labels": {"windlass.dev/pool": stage.name, "kubernetes.io/hostname": name},
            },
        },
    )
    status = {"capacity": amounts, "allocatable": amounts} | ({} if played else {"conditions": [ready]})
    patch(stage.api, f"{path_of('Node', name)}/status", {"status": status})


def test_a_node_that_is_gone(stage: Stage) -> None:
    stage.set_up(stage.name, a=share(4))
    add_node(stage, "doomed", played=True)
    job = stage.job("a", "first", 4)
    stage.until_runs(job, 60)
    delete(stage.api, path_of("Node", "doomed"))
    assert stage.until(job, "node_lost", 60).facts["node"] == "doomed"


def test_a_node_that_is_silent(stage: Stage) -> None:
    """Nobody plays its kubelet: its pod is said to run once, and the node is missed after the grace period."""
    stage.set_up(stage.name, a=share(4))
    add_node(stage, "silent", played=False)
    job = stage.job("a", "first", 4)

    def placed() -> list[str]:
        return [pod["metadata"]["name"] for pod in stage.seen(job)["pods"] if pod["spec"].get("nodeName")]

    eventually(lambda: bool(placed()), "the pod is given to the node", 60)
    path = f"/api/v1/namespaces/{job.split('/')[0]}/pods/{placed()[0]}/status"
    patch(stage.api, path, {"status": {"phase": "Running"}})
    stage.until_runs(job)
    assert stage.until(job, "node_lost", 120).facts["node"] == "silent"
    delete(stage.api, path_of("Node", "silent"))
