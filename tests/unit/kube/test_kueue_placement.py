"""Jobs that fit a quota and no set of nodes: free GPUs, what their users read, and the order after an eviction."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.kube.kueue_objects import GPU, admitted, condition, pending_workload, pool, project, second, state

from windlass.domain.jobs import Reason
from windlass.domain.placement import placement_problem
from windlass.domain.quota import schedule
from windlass.kube.kueue.cluster_objects import Node, Pod
from windlass.kube.kueue.explain import WorkloadObservation, explain_pending
from windlass.kube.kueue.placement import free_gpus
from windlass.kube.kueue.snapshot import snapshot_from_cluster

Json = dict[str, Any]
TEAM = [project("search", {"pool": "a100", "nominal": 32})]
TIMEOUT = "Exceeded the PodsReady timeout wl-search/mine"


def node(name: str, gpus: int, *taints: Json, label: str = "a100", **spec: Any) -> Node:
    return Node.parse(
        {
            "metadata": {"name": name, "labels": {"windlass.dev/pool": label}},
            "spec": {"taints": list(taints), **spec},
            "status": {"conditions": [condition("Ready")], "allocatable": {GPU: str(gpus)}},
        }
    )


def pod(on: str, gpus: int, phase: str = "Running") -> Pod:
    container = {"name": "main", "resources": {"limits": {GPU: str(gpus)}}}
    placed = {"nodeName": on} if on else {}
    return Pod.parse(
        {"metadata": {"name": "p"}, "spec": {**placed, "containers": [container]}, "status": {"phase": phase}}
    )


def test_free_gpus_are_those_of_nodes_that_take_pods_of_the_pool() -> None:
    nodes = [
        node("n1", 8),
        node("n2", 8),
        node("cordoned", 8, unschedulable=True),
        node("foreign", 8, {"key": "dedicated", "effect": "NoSchedule"}),
        node("other", 8, label="h100"),
    ]
    pods = [pod("n1", 5), pod("n1", 1, "Failed"), pod("", 4, "Pending"), pod("n2", 2), pod("n2", 7)]
    assert free_gpus(pool(), nodes, pods) == (3, 0)


@pytest.mark.parametrize(
    ("free", "workers", "gpus", "problem"),
    [
        ((8, 8), 2, 8, ""),
        ((8, 8), 1, 16, "no node has 16 GPUs free, the most on one node is 8"),
        ((3, 3, 3, 3), 2, 4, "no node has 4 GPUs free, the most on one node is 3"),
        ((7, 4), 3, 4, "the nodes have room for 2 of 3 workers with 4 GPUs each"),
        ((), 1, 1, "no node has 1 GPU free, the most on one node is 0"),
        ((), 1, 0, ""),
    ],
)
def test_workers_that_do_not_fit(free: tuple[int, ...], workers: int, gpus: int, problem: str) -> None:
    assert placement_problem(free, workers, gpus) == problem


def unschedulable_pod() -> Pod:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes"}
    container = {"name": "main", "resources": {"limits": {GPU: "4"}}}
    return Pod.parse(
        {
            "metadata": {"name": "p"},
            "spec": {"containers": [container]},
            "status": {"phase": "Pending", "conditions": [scheduled]},
        }
    )


def explain(workload: Json, free: tuple[int, ...] | None, *pods: Pod) -> Reason:
    cluster_state = state(TEAM, workload)
    reason = explain_pending(
        WorkloadObservation(cluster_state.workloads[0], cluster_state, free_gpus=free, pods=pods, nodes={})
    )
    assert reason is not None
    return reason


def test_a_job_whose_workers_are_larger_than_what_is_free_on_a_node_can_be_made_smaller_by_its_user() -> None:
    reason = explain(admitted("search", "mine", 4), (3, 3), unschedulable_pod())
    assert (reason.code, reason.action_by.value, reason.context["free_gpus"]) == ("unschedulable", "user", [3, 3])
    assert reason.message.endswith("0/4 nodes; no node has 4 GPUs free, the most on one node is 3")
    assert reason.action.startswith("Ask for at most 3 GPUs per worker, or ask an admin")


@pytest.mark.parametrize("free", [None, (4,), (0, 0)])
def test_other_jobs_that_are_not_placed_need_an_admin(free: tuple[int, ...] | None) -> None:
    reason = explain(admitted("search", "mine", 4), free, unschedulable_pod())
    assert (reason.code, reason.action_by.value) == ("unschedulable", "admin")


def evicted(requeue_at: str | None, *, at: int = 9, message: str = TIMEOUT) -> Json:
    conditions = [
        condition("Evicted", reason="PodsReadyTimeout", message=TIMEOUT, at=at),
        condition("QuotaReserved", status=False, reason="Pending", message=message, at=at),
    ]
    requeue = {"count": 2, "requeueAt": requeue_at} if requeue_at else {"count": 2}
    return pending_workload("search", "mine", 4, at=1) | {"status": {"conditions": conditions, "requeueState": requeue}}


def test_a_job_that_gave_its_quota_back_says_why_and_when_it_is_tried_again() -> None:
    reason = explain(evicted("2026-11-22T12:04:00Z"), (3, 3))
    assert (reason.code, reason.action_by.value) == ("pods_not_ready", "user")
    assert reason.message == (
        "Its pods were not ready in time, so its quota was given back; it is tried again at 12:04:00 UTC; "
        "no node has 4 GPUs free, the most on one node is 3"
    )
    assert (reason.context["evictions"], reason.context["retry_at"]) == (2, "2026-11-22T12:04:00+00:00")


def test_a_job_after_its_back_off_says_what_it_waits_for() -> None:
    reason = explain(evicted("2026-11-22T11:00:00Z"), None)
    assert (reason.code, reason.action_by.value, reason.context["waits_for"]) == (
        "pods_not_ready",
        "admin",
        "not_evaluated_yet",
    )


def test_a_job_that_is_stopped_for_its_pods_says_so() -> None:
    workload = admitted("search", "mine", 4)
    workload["status"]["conditions"].append(condition("Evicted", reason="PodsReadyTimeout", message=TIMEOUT))
    reason = explain(workload, None)
    assert (reason.code, reason.context["terminating"]) == ("pods_not_ready", True)


def test_a_job_whose_pods_were_not_ready_is_queued_behind_the_others_as_in_kueue() -> None:
    unused = "insufficient unused quota for nvidia.com/gpu in flavor a100, 4 more needed"
    running = admitted("search", "running", 32)
    snapshot = snapshot_from_cluster(
        state(TEAM, running, evicted(None, at=9, message=unused), pending_workload("search", "younger", 4, at=5))
    )
    waiting = schedule(snapshot).waiting
    assert {job: decision.position for job, decision in waiting.items()} == {
        "wl-search/younger": 1,
        "wl-search/mine": 2,
    }
    [mine] = [demand for demand in snapshot.demands if demand.job == "wl-search/mine"]
    assert mine.queued_at == datetime.fromisoformat(second(9)).astimezone(UTC)
