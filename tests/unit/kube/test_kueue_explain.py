"""Explanations of pending workloads: coarse reasons of Kueue 0.19.2 and granular reasons of later versions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kube.kueue_objects import admitted, condition, pending_workload, project, state

from windlass.domain.jobs import Reason
from windlass.domain.quota import schedule
from windlass.kube.kueue.cluster_objects import KubeEvent, Node, Pod
from windlass.kube.kueue.explain import WorkloadObservation, explain_pending
from windlass.kube.kueue.queues import ClusterQueue
from windlass.kube.kueue.snapshot import snapshot_from_cluster
from windlass.kube.kueue.workload import PendingWorkloads, Workload

Json = dict[str, Any]
TEAMS = [
    project("search", {"pool": "a100", "nominal": 8, "borrowingLimit": 1}),
    project("ranking", {"pool": "a100", "nominal": 4}),
]
COULD_NOT = "couldn't assign flavors to pod set main: "
UNUSED = f"{COULD_NOT}insufficient unused quota for nvidia.com/gpu in flavor a100, 3 more needed"
TOO_LARGE = (
    f"{COULD_NOT}insufficient quota for nvidia.com/gpu in flavor a100, previously considered podsets requests (0) + "
    "current podset request (20) > maximum capacity (9)"
)
TAKEN = (
    "Preempted to accommodate a workload (UID: {uid}, JobUID: UNKNOWN) due to {why}; preemptor path: "
    "/windlass-lab/{by}.a100; preemptee path: /windlass-lab/search.a100"
)


def pending(message: str, reason: str = "Pending", gpus: int = 4) -> Json:
    result = condition("QuotaReserved", status=False, reason=reason, message=message)
    return pending_workload("search", "mine", gpus, at=5) | {"status": {"conditions": [result]}}


def queued(*names: str) -> PendingWorkloads:
    items = [
        {"metadata": {"name": name, "namespace": "wl-search"}, "positionInClusterQueue": place}
        for place, name in enumerate(names)
    ]
    return PendingWorkloads.model_validate({"items": items})


def observed(mine: Json, *others: Json, predict: bool = True, **more: Any) -> WorkloadObservation:
    cluster_state = state(TEAMS, mine, *others)
    workload = cluster_state.workloads[0]
    verdict = (
        schedule(snapshot_from_cluster(cluster_state)).waiting.get(cluster_state.jobs.get(workload.key, ""))
        if predict
        else None
    )
    return WorkloadObservation(workload, cluster_state, predicted=verdict, **more)


def explain(*result: Any, **more: Any) -> Reason:
    cluster_state = explain_pending(observed(*result, **more))
    assert cluster_state is not None
    return cluster_state


@pytest.mark.parametrize("reason", ["Pending", "WaitingForQuota"])
def test_head_of_queue_waits_for_quota(reason: str) -> None:
    result = explain(pending(UNUSED, reason), admitted("search", "s", 8), pending=queued("mine"), predict=False)
    assert (result.code, result.action_by.value) == ("waiting_for_quota", "none")
    assert result.context == {"pool": "a100", "needed": 4, "free": 1, "position": 1}
    assert result.message == "1st in queue; needs 4 GPUs of pool a100, 1 is free"
    unreported = explain(pending(UNUSED, reason), admitted("search", "s", 8), predict=False)
    assert unreported.message == "needs 4 GPUs of pool a100, 1 is free", "Kueue has not reported the position"


def test_borrowing_limit_comes_from_the_prediction() -> None:
    result = explain(pending(UNUSED), admitted("search", "s", 8), pending=queued("mine"))
    assert (result.code, result.action_by.value, result.context["limit"]) == ("borrowing_limit_reached", "admin", 1)


@pytest.mark.parametrize("reason", ["Pending", "ExceedsMaxQuota"])
@pytest.mark.parametrize("predict", [True, False])
def test_job_above_the_maximum_quota_never_starts(reason: str, predict: bool) -> None:
    result = explain(pending(TOO_LARGE, reason, gpus=20), pending=queued("mine"), predict=predict)
    assert (result.code, result.action_by.value) == ("exceeds_max_quota", "user")
    assert (result.context["limit"], result.context["position"]) == (9, 1)


@pytest.mark.parametrize("predict", [True, False])
def test_job_behind_the_head_names_the_head(predict: bool) -> None:
    mine, head = pending_workload("search", "mine", 1, at=5), pending_workload("search", "big", 9, at=1)
    result = explain(mine, head, admitted("search", "s", 8), pending=queued("big", "mine"), predict=predict)
    assert result.code == "behind_head_of_queue"
    assert (result.context["position"], result.context["ahead"]) == (2, "wl-search/big")
    assert "job wl-search/big is at the head of the queue" in result.message


def test_head_that_never_starts_is_for_its_owner_to_remove() -> None:
    mine, head = pending_workload("search", "mine", 1, at=5), pending_workload("search", "big", 50, at=1)
    result = explain(mine, head, pending=queued("big", "mine"))
    assert (result.code, result.action_by.value) == ("behind_head_of_queue", "user")
    assert result.action == "Cancel job wl-search/big or change its request"


def test_head_in_another_namespace_is_not_named() -> None:
    other = {"metadata": {"name": "secret", "namespace": "wl-ranking"}, "positionInClusterQueue": 0}
    own = {"metadata": {"name": "mine", "namespace": "wl-search"}, "positionInClusterQueue": 1}
    result = explain(
        pending_workload("search", "mine", 1),
        pending=PendingWorkloads.model_validate({"items": [own, other]}),
        predict=False,
    )
    assert result.code == "behind_head_of_queue"
    assert "secret" not in result.model_dump_json()


def test_workload_not_evaluated_yet() -> None:
    result = explain(pending_workload("search", "mine", 1), pending=queued("mine"))
    assert (result.code, result.context) == ("not_evaluated_yet", {"pool": "a100", "needed": 1, "position": 1})


@pytest.mark.parametrize("reason", ["Pending", "WaitingForPreemptedWorkloads"])
def test_head_waits_for_preempted_jobs(reason: str) -> None:
    result = explain(pending(f"{UNUSED}. Pending the preemption of 2 workload(s)", reason), pending=queued("mine"))
    assert (result.code, result.context["terminating"]) == ("waiting_for_preempted", 2)
    assert result.message.endswith("waits for 2 jobs to stop")


@pytest.mark.parametrize(
    ("message", "reason", "code"),
    [
        (f"{COULD_NOT}untolerated taint {{spot  NoSchedule <nil>}} in flavor a100", "Pending", "no_matching_nodes"),
        (f"{COULD_NOT}flavor a100 doesn't match node affinity", "NoMatchingFlavor", "no_matching_nodes"),
        (f"{COULD_NOT}flavor a100 not found", "Pending", "misconfigured"),
        ("workload namespace doesn't match ClusterQueue selector", "Pending", "misconfigured"),
        ("LocalQueue a100 doesn't exist", "Inadmissible", "misconfigured"),
        ("ClusterQueue search.a100 is terminating or missing", "Inadmissible", "misconfigured"),
        ("waiting for all admitted workloads to be in PodsReady condition", "Waiting", "waiting_for_pods_ready"),
        ("Admission is gated by: acme.com/budget", "AdmissionGated", "queue_on_hold"),
        ("Job is on hold", "OnHold", "queue_on_hold"),
        ("The workload has failed admission checks", "Pending", "waiting_for_checks"),
        ("some unknown message", "Pending", "unknown"),
        ("any message", "Misconfigured", "misconfigured"),
    ],
)
def test_causes_that_free_quota_does_not_resolve(message: str, reason: str, code: str) -> None:
    result = explain(pending(message, reason), pending=queued("mine"))
    text = " ".join(message.split())
    assert (result.code, result.context["detail"]) == (code, text)
    assert text in result.message


def stopped(observation: WorkloadObservation, **queue: Any) -> WorkloadObservation:
    [mine, *others] = observation.state.cluster_queues
    raw = mine.model_dump()
    changed = ClusterQueue.model_validate(raw | {name: raw[name] | value for name, value in queue.items()})
    return replace(observation, state=replace(observation.state, cluster_queues=(changed, *others)))


def test_stopped_queue_overrides_an_outdated_condition() -> None:
    result = explain_pending(stopped(observed(pending(UNUSED)), spec={"stop_policy": "Hold"}))
    assert result is not None
    assert (result.code, result.context) == ("queue_stopped", {"pool": "a100", "needed": 4})


def test_inactive_queue_is_misconfigured() -> None:
    message = "Can't admit new workloads: references missing ResourceFlavor(s): a100."
    broken = [condition("Active", status=False, reason="FlavorNotFound", message=message)]
    result = explain_pending(
        stopped(
            observed(pending("ClusterQueue search.a100 is inactive", "Inadmissible")), status={"conditions": broken}
        )
    )
    assert result is not None
    assert (result.code, result.context["detail"]) == ("misconfigured", message)


def test_resumed_queue_is_not_reported_as_stopped() -> None:
    result = explain(pending("ClusterQueue search.a100 is stopped", "Inadmissible"), pending=queued("mine"))
    assert result.code == "not_evaluated_yet"


@pytest.mark.parametrize(("queue", "text"), [("typo", "no LocalQueue 'typo' in namespace wl-search")])
def test_missing_queue_is_misconfigured(queue: str, text: str) -> None:
    mine = pending_workload("search", "mine", 1)
    mine["spec"]["queueName"] = queue
    result = explain(mine, predict=False)
    assert result.code == "misconfigured"
    assert text in result.message


def preempted(mine: Json, cause: str, by: str, uid: str, why_: str) -> Json:
    message = TAKEN.format(uid=uid, why=why_, by=by)
    mine.setdefault("status", {}).setdefault("conditions", [])
    mine["status"]["conditions"] += [
        condition("Evicted", reason="Preempted", message=message),
        condition("Preempted", reason=cause, message=message),
    ]
    return mine


def test_reclaiming_project_is_named_and_its_job_is_not() -> None:
    mine = preempted(pending(UNUSED), "InCohortReclamation", "ranking", "uid-theirs", "reclamation within the cohort")
    result = explain(
        mine, admitted("ranking", "theirs", 4), admitted("search", "s", 8), pending=queued("mine"), predict=False
    )
    assert result.code == "preempted"
    assert (result.context["by_project"], result.context["cause"]) == ("ranking", "InCohortReclamation")
    assert result.message == (
        "Preempted: project ranking reclaimed GPUs that it had lent; 1st in queue; needs 4 GPUs of pool a100, 1 is free"
    )
    assert (result.context["waits_for"], result.context["position"]) == ("waiting_for_quota", 1)
    assert "theirs" not in result.model_dump_json()


def test_preempting_job_of_the_same_project_is_named() -> None:
    mine = preempted(admitted("search", "mine", 4), "InClusterQueue", "search", "uid-urgent", "prioritization")
    result = explain(mine, pending_workload("search", "urgent", 8))
    assert result.code == "preempted"
    assert (result.context["by_job"], result.context["terminating"]) == ("wl-search/urgent", True)
    assert result.message == "Preempted by job wl-search/urgent of higher priority; it is stopping"


def test_queue_outside_the_cohort_is_not_named() -> None:
    mine = preempted(admitted("search", "mine", 4), "InCohortReclamation", "elsewhere", "uid-x", "reclamation")
    observation = observed(mine)
    flavors = observation.state.cluster_queues[0].spec.model_copy(update={"cohort_name": "secret"})
    meta = observation.state.cluster_queues[0].metadata.model_copy(update={"name": "elsewhere.a100"})
    other = ClusterQueue(metadata=meta, spec=flavors)
    crowded = replace(observation.state, cluster_queues=(*observation.state.cluster_queues, other))
    result = explain_pending(replace(observation, state=crowded))
    assert result is not None
    assert "elsewhere" not in result.model_dump_json()
    assert result.message.startswith("Preempted: another project reclaimed")


def test_preempted_job_behind_another_reports_both() -> None:
    mine = preempted(pending(TAKEN), "InCohortReclamation", "ranking", "uid-theirs", "reclamation within the cohort")
    result = explain(mine, pending_workload("search", "first", 8, at=1), pending=queued("first", "mine"), predict=False)
    assert result.code == "preempted"
    assert (result.context["waits_for"], result.context["ahead"]) == ("behind_head_of_queue", "wl-search/first")


@pytest.mark.parametrize(
    ("cause", "code"),
    [("ClusterQueueStopped", "evicted"), ("PodsReadyTimeout", "pods_not_ready"), ("NodeFailures", "node_lost")],
)
def test_other_evictions_name_their_cause(cause: str, code: str) -> None:
    mine = pending(UNUSED)
    mine["status"]["conditions"].append(condition("Evicted", reason=cause))
    result = explain(mine, pending=queued("mine"), predict=False)
    assert (result.code, result.context["cause"], result.context["waits_for"]) == (code, cause, "waiting_for_quota")


def test_deactivated_workload_reports_the_cause() -> None:
    mine = pending(UNUSED)
    mine["spec"]["active"] = False
    message = "The workload is deactivated due to exceeding the maximum execution time"
    mine["status"]["conditions"].append(condition("Evicted", reason="Deactivated", message=message))
    result = explain(mine)
    assert (result.code, result.action_by.value, result.context) == ("deactivated", "user", {"detail": message})


def test_a_job_without_a_workload() -> None:
    cluster_state = WorkloadObservation(None, state(TEAMS))
    nothing = explain_pending(cluster_state)
    assert nothing is not None
    assert (nothing.code, nothing.action_by.value) == ("not_queued", "none")
    event = KubeEvent.parse({"type": "Warning", "reason": "ErrWorkloadCompose", "message": "too many pod sets"})
    result = explain_pending(replace(cluster_state, events=(event,)))
    assert result is not None
    assert (result.code, result.action_by.value, result.context) == (
        "not_queued",
        "admin",
        {"detail": "too many pod sets"},
    )


def test_finished_workload_has_no_reason() -> None:
    mine = admitted("search", "mine", 1)
    mine["status"]["conditions"].append(condition("Finished"))
    assert explain_pending(observed(mine)) is None


def test_quota_without_admission_waits_for_checks() -> None:
    mine = admitted("search", "mine", 1)
    mine["status"]["conditions"][1]["status"] = "False"
    mine["status"]["admissionChecks"] = [
        {"name": "capacity", "state": "Pending", "message": "no machines yet"},
        {"name": "budget", "state": "Ready", "message": "fine"},
    ]
    result = explain(mine)
    assert (result.code, result.context) == (
        "waiting_for_checks",
        {"checks": ["capacity"], "detail": "no machines yet"},
    )


def a_pod(name: str = "p", phase: str = "Running", node: str = "n1", **status: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": "wl-search", "uid": f"uid-{name}"},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase} | status,
    }


def a_node(name: str = "n1", ready: str = "True") -> Json:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def with_pods(*pods: Json, nodes: tuple[Json, ...] | None = None, events: tuple[Json, ...] = ()) -> Reason | None:
    named = None if nodes is None else {node["metadata"]["name"]: Node.parse(node) for node in nodes}
    return explain_pending(
        observed(
            admitted("search", "mine", 1), pods=Pod.parse_all(pods), nodes=named, events=KubeEvent.parse_all(events)
        )
    )


BACK_OFF = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x:1"'}}


def test_an_image_that_cannot_be_pulled_is_named_with_the_kubelets_error() -> None:
    pod = a_pod(phase="Pending", containerStatuses=[{"name": "main", "image": "x:1", "state": BACK_OFF}])
    old = {
        "type": "Warning",
        "message": 'Failed to pull image "x:1": no such host',
        "lastTimestamp": "2026-11-22T10:00:00Z",
    }
    event = old | {"involvedObject": {"kind": "Pod", "name": "p", "uid": "uid-p"}}
    other = old | {"involvedObject": {"kind": "Pod", "name": "q"}, "message": 'Failed to pull image "secret"'}
    result = with_pods(pod, nodes=(a_node(),), events=(event, other))
    assert result is not None
    assert (result.code, result.action_by.value, result.context["image"]) == ("image_pull_failed", "admin", "x:1")
    assert result.context["detail"] == 'Failed to pull image "x:1": no such host'
    alone = with_pods(pod)
    assert alone is not None
    assert alone.context["detail"] == 'Back-off pulling image "x:1"'


def test_unschedulable_pods_are_counted() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/9 nodes"}
    result = with_pods(a_pod(), a_pod("q", "Pending", "", conditions=[unscheduled]))
    assert result is not None
    assert (result.code, result.context) == ("unschedulable", {"pods": 2, "unschedulable": 1, "detail": "0/9 nodes"})


@pytest.mark.parametrize("nodes", [(), (a_node(ready="Unknown"),), (a_node("other"),)])
def test_lost_node_is_named(nodes: tuple[Json, ...]) -> None:
    result = with_pods(a_pod(), nodes=nodes)
    assert result is not None
    assert (result.code, result.context) == ("node_lost", {"node": "n1", "pod": "p"})


def test_pod_disrupted_by_its_node_reports_the_node() -> None:
    gone = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    result = with_pods(a_pod(conditions=[gone]))
    assert result is not None
    assert result.code == "node_lost"


def test_crash_looping_container_is_named() -> None:
    crash = {
        "name": "main",
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
    }
    result = with_pods(a_pod(containerStatuses=[crash]))
    assert result is not None
    assert result.code == "container_cannot_start"
    assert (result.context["cause"], result.context["restarts"]) == ("CrashLoopBackOff", 4)


def test_a_job_whose_pods_run_has_no_reason() -> None:
    assert with_pods(a_pod(), a_pod("q", "Succeeded"), nodes=(a_node(),)) is None


@pytest.mark.parametrize(("pods", "count"), [((), 0), ((a_pod(phase="Pending"),), 1)])
def test_starting_pods_are_counted(pods: tuple[Json, ...], count: int) -> None:
    result = with_pods(*pods)
    assert result is not None
    assert (result.code, result.context) == ("pods_starting", {"pods": count})


@given(st.text(max_size=2000))
def test_reason_quotes_at_most_one_line(message: str) -> None:
    result = explain_pending(
        WorkloadObservation(Workload.parse(pending(message)), state(TEAMS), pending=queued("mine"))
    )
    assert result is not None
    assert len(result.message) < 700
    assert result.message.isprintable()


def test_a_reason_is_plain_json() -> None:
    result = explain(pending(UNUSED), admitted("search", "s", 8), pending=queued("mine"))
    assert isinstance(result.model_dump(mode="json")["context"], Mapping)
