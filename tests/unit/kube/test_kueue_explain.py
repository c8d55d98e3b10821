"""Why a workload waits: the words of Kueue 0.19.2 and the granular reasons of later versions lead to one Reason."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kube.kueue_objects import condition, holding, project, state, wanting

from windlass.domain.jobs import Reason
from windlass.domain.quota import schedule
from windlass.kube.kueue.explain import Observation, explain
from windlass.kube.kueue.facts import Event, Node, Pod
from windlass.kube.kueue.messages import Wait, read_preemption, read_wait
from windlass.kube.kueue.queues import ClusterQueue
from windlass.kube.kueue.reading import Condition
from windlass.kube.kueue.snapshot import take_snapshot
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
    told = condition("QuotaReserved", status=False, reason=reason, message=message)
    return wanting("search", "mine", gpus, at=5) | {"status": {"conditions": [told]}}


def line(*names: str) -> PendingWorkloads:
    items = [
        {"metadata": {"name": name, "namespace": "wl-search"}, "positionInClusterQueue": place}
        for place, name in enumerate(names)
    ]
    return PendingWorkloads.model_validate({"items": items})


def seen(mine: Json, *others: Json, foresee: bool = True, **more: Any) -> Observation:
    found = state(TEAMS, mine, *others)
    workload = found.workloads[0]
    verdict = schedule(take_snapshot(found)).waiting.get(found.jobs.get(workload.key, "")) if foresee else None
    return Observation(workload, found, foreseen=verdict, **more)


def why(*told: Any, **more: Any) -> Reason:
    found = explain(seen(*told, **more))
    assert found is not None
    return found


@pytest.mark.parametrize("reason", ["Pending", "WaitingForQuota"])
def test_a_head_waits_for_quota(reason: str) -> None:
    told = why(pending(UNUSED, reason), holding("search", "s", 8), line=line("mine"), foresee=False)
    assert (told.code, told.owner.value) == ("waiting_for_quota", "nobody")
    assert told.facts == {"pool": "a100", "needed": 4, "free": 1, "position": 1}
    assert told.message == "1st in queue; needs 4 GPUs of pool a100, 1 is free"


def test_the_borrowing_limit_is_foreseen_since_kueue_does_not_tell_it() -> None:
    told = why(pending(UNUSED), holding("search", "s", 8), line=line("mine"))
    assert (told.code, told.owner.value, told.facts["limit"]) == ("borrowing_limit_reached", "admin", 1)


@pytest.mark.parametrize("reason", ["Pending", "ExceedsMaxQuota"])
@pytest.mark.parametrize("foresee", [True, False])
def test_a_job_larger_than_its_quota_can_give_never_starts(reason: str, foresee: bool) -> None:
    told = why(pending(TOO_LARGE, reason, gpus=20), line=line("mine"), foresee=foresee)
    assert (told.code, told.owner.value) == ("exceeds_max_quota", "you")
    assert (told.facts["limit"], told.facts["position"]) == (9, 1)


@pytest.mark.parametrize("foresee", [True, False])
def test_behind_the_head_there_is_no_condition_and_the_head_is_named(foresee: bool) -> None:
    mine, head = wanting("search", "mine", 1, at=5), wanting("search", "big", 9, at=1)
    told = why(mine, head, holding("search", "s", 8), line=line("big", "mine"), foresee=foresee)
    assert told.code == "behind_head_of_queue"
    assert (told.facts["position"], told.facts["ahead"]) == (2, "wl-search/big")
    assert "job wl-search/big is at the head of the queue" in told.message


def test_a_head_that_never_starts_is_the_owners_to_remove() -> None:
    mine, head = wanting("search", "mine", 1, at=5), wanting("search", "big", 50, at=1)
    told = why(mine, head, line=line("big", "mine"))
    assert (told.code, told.owner.value) == ("behind_head_of_queue", "you")
    assert told.action == "Cancel job wl-search/big or make it possible"


def test_a_head_in_another_namespace_is_not_named() -> None:
    other = {"metadata": {"name": "secret", "namespace": "wl-ranking"}, "positionInClusterQueue": 0}
    own = {"metadata": {"name": "mine", "namespace": "wl-search"}, "positionInClusterQueue": 1}
    told = why(
        wanting("search", "mine", 1), line=PendingWorkloads.model_validate({"items": [own, other]}), foresee=False
    )
    assert told.code == "behind_head_of_queue"
    assert "secret" not in told.model_dump_json()


def test_nobody_has_looked_yet() -> None:
    told = why(wanting("search", "mine", 1), line=line("mine"))
    assert (told.code, told.facts) == ("not_looked_at", {"pool": "a100", "needed": 1, "position": 1})


@pytest.mark.parametrize("reason", ["Pending", "WaitingForPreemptedWorkloads"])
def test_a_head_waits_for_those_who_must_stop(reason: str) -> None:
    told = why(pending(f"{UNUSED}. Pending the preemption of 2 workload(s)", reason), line=line("mine"))
    assert (told.code, told.facts["leaving"]) == ("waiting_for_preempted", 2)
    assert told.message.endswith("waits for 2 jobs to stop")


@pytest.mark.parametrize(
    ("message", "reason", "code"),
    [
        (f"{COULD_NOT}untolerated taint {{spot  NoSchedule <nil>}} in flavor a100", "Pending", "no_matching_nodes"),
        (f"{COULD_NOT}flavor a100 doesn't match node affinity", "NoMatchingFlavor", "no_matching_nodes"),
        (f"{COULD_NOT}flavor a100 not found", "Pending", "misconfigured"),
        ("workload namespace doesn't match ClusterQueue selector", "Pending", "misconfigured"),
        ("LocalQueue a100 doesn't exist", "Inadmissible", "misconfigured"),
        ("ClusterQueue search.a100 is terminating or missing", "Inadmissible", "misconfigured"),
        ("waiting for all admitted workloads to be in PodsReady condition", "Waiting", "others_starting"),
        ("Admission is gated by: acme.com/budget", "AdmissionGated", "held"),
        ("Job is on hold", "OnHold", "held"),
        ("The workload has failed admission checks", "Pending", "waiting_for_checks"),
        ("the moon is in the wrong house", "Pending", "unexplained"),
        ("whatever it says", "Misconfigured", "misconfigured"),
    ],
)
def test_what_no_free_quota_ends(message: str, reason: str, code: str) -> None:
    told = why(pending(message, reason), line=line("mine"))
    words = " ".join(message.split())
    assert (told.code, told.facts["detail"]) == (code, words)
    assert words in told.message


def stopped(observation: Observation, **queue: Any) -> Observation:
    [mine, *others] = observation.state.cluster_queues
    raw = mine.model_dump()
    changed = ClusterQueue.model_validate(raw | {name: raw[name] | value for name, value in queue.items()})
    return replace(observation, state=replace(observation.state, cluster_queues=(changed, *others)))


def test_a_stopped_queue_is_named_though_the_condition_is_older() -> None:
    told = explain(stopped(seen(pending(UNUSED)), spec={"stop_policy": "Hold"}))
    assert told is not None
    assert (told.code, told.facts) == ("queue_stopped", {"pool": "a100", "needed": 4})


def test_a_queue_that_kueue_refuses_is_misconfigured() -> None:
    message = "Can't admit new workloads: references missing ResourceFlavor(s): a100."
    broken = [condition("Active", status=False, reason="FlavorNotFound", message=message)]
    told = explain(
        stopped(seen(pending("ClusterQueue search.a100 is inactive", "Inadmissible")), status={"conditions": broken})
    )
    assert told is not None
    assert (told.code, told.facts["detail"]) == ("misconfigured", message)


def test_a_queue_that_was_opened_again_is_not_said_to_be_stopped() -> None:
    told = why(pending("ClusterQueue search.a100 is stopped", "Inadmissible"), line=line("mine"))
    assert told.code == "not_looked_at"


@pytest.mark.parametrize(("queue", "words"), [("typo", "no LocalQueue 'typo' in namespace wl-search")])
def test_a_queue_that_is_not_there_is_misconfigured(queue: str, words: str) -> None:
    mine = wanting("search", "mine", 1)
    mine["spec"]["queueName"] = queue
    told = why(mine, foresee=False)
    assert told.code == "misconfigured"
    assert words in told.message


def preempted(mine: Json, cause: str, by: str, uid: str, why_: str) -> Json:
    message = TAKEN.format(uid=uid, why=why_, by=by)
    mine.setdefault("status", {}).setdefault("conditions", [])
    mine["status"]["conditions"] += [
        condition("Evicted", reason="Preempted", message=message),
        condition("Preempted", reason=cause, message=message),
    ]
    return mine


def test_the_project_that_took_its_gpus_back_is_named_and_its_job_is_not() -> None:
    mine = preempted(pending(UNUSED), "InCohortReclamation", "ranking", "uid-theirs", "reclamation within the cohort")
    told = why(mine, holding("ranking", "theirs", 4), holding("search", "s", 8), line=line("mine"), foresee=False)
    assert (told.code, told.facts["by_project"], told.facts["cause"]) == ("preempted", "ranking", "InCohortReclamation")
    assert told.message == (
        "Preempted: project ranking took back GPUs that it had lent; 1st in queue; needs 4 GPUs of pool a100, 1 is free"
    )
    assert (told.facts["waits_for"], told.facts["position"]) == ("waiting_for_quota", 1)
    assert "theirs" not in told.model_dump_json()


def test_a_job_of_ones_own_that_took_the_place_is_named() -> None:
    mine = preempted(holding("search", "mine", 4), "InClusterQueue", "search", "uid-urgent", "prioritization")
    told = why(mine, wanting("search", "urgent", 8))
    assert (told.code, told.facts["by_job"], told.facts["leaving"]) == ("preempted", "wl-search/urgent", True)
    assert told.message == "Preempted: job wl-search/urgent of higher priority took its place; it is stopping"


def test_a_queue_outside_the_cohort_is_not_named() -> None:
    mine = preempted(holding("search", "mine", 4), "InCohortReclamation", "elsewhere", "uid-x", "reclamation")
    observation = seen(mine)
    flavors = observation.state.cluster_queues[0].spec.model_copy(update={"cohort_name": "secret"})
    meta = observation.state.cluster_queues[0].metadata.model_copy(update={"name": "elsewhere.a100"})
    other = ClusterQueue(metadata=meta, spec=flavors)
    crowded = replace(observation.state, cluster_queues=(*observation.state.cluster_queues, other))
    told = explain(replace(observation, state=crowded))
    assert told is not None
    assert "elsewhere" not in told.model_dump_json()
    assert told.message.startswith("Preempted: another project took back")


def test_a_preempted_job_behind_another_says_so() -> None:
    mine = preempted(pending(TAKEN), "InCohortReclamation", "ranking", "uid-theirs", "reclamation within the cohort")
    told = why(mine, wanting("search", "first", 8, at=1), line=line("first", "mine"), foresee=False)
    assert (told.code, told.facts["waits_for"], told.facts["ahead"]) == (
        "preempted",
        "behind_head_of_queue",
        "wl-search/first",
    )


@pytest.mark.parametrize(("cause", "code"), [("PodsReadyTimeout", "evicted"), ("NodeFailures", "node_lost")])
def test_other_evictions_name_their_cause(cause: str, code: str) -> None:
    mine = pending(UNUSED)
    mine["status"]["conditions"].append(condition("Evicted", reason=cause))
    told = why(mine, line=line("mine"), foresee=False)
    assert (told.code, told.facts["cause"], told.facts["waits_for"]) == (code, cause, "waiting_for_quota")


def test_what_was_switched_off_says_by_what() -> None:
    mine = pending(UNUSED)
    mine["spec"]["active"] = False
    message = "The workload is deactivated due to exceeding the maximum execution time"
    mine["status"]["conditions"].append(condition("Evicted", reason="Deactivated", message=message))
    told = why(mine)
    assert (told.code, told.owner.value, told.facts) == ("deactivated", "you", {"detail": message})


def test_a_job_without_a_workload() -> None:
    found = Observation(None, state(TEAMS))
    nothing = explain(found)
    assert nothing is not None
    assert (nothing.code, nothing.owner.value) == ("not_queued", "nobody")
    event = Event.parse({"type": "Warning", "reason": "ErrWorkloadCompose", "message": "too many pod sets"})
    told = explain(replace(found, events=(event,)))
    assert told is not None
    assert (told.code, told.owner.value, told.facts) == ("not_queued", "admin", {"detail": "too many pod sets"})


def test_what_ended_needs_no_reason() -> None:
    mine = holding("search", "mine", 1)
    mine["status"]["conditions"].append(condition("Finished"))
    assert explain(seen(mine)) is None


def test_quota_without_admission_waits_for_checks() -> None:
    mine = holding("search", "mine", 1)
    mine["status"]["conditions"][1]["status"] = "False"
    mine["status"]["admissionChecks"] = [
        {"name": "capacity", "state": "Pending", "message": "no machines yet"},
        {"name": "budget", "state": "Ready", "message": "fine"},
    ]
    told = why(mine)
    assert (told.code, told.facts) == ("waiting_for_checks", {"checks": ["capacity"], "detail": "no machines yet"})


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
    return explain(
        seen(holding("search", "mine", 1), pods=Pod.parse_all(pods), nodes=named, events=Event.parse_all(events))
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
    told = with_pods(pod, nodes=(a_node(),), events=(event, other))
    assert told is not None
    assert (told.code, told.owner.value, told.facts["image"]) == ("image_pull_failed", "admin", "x:1")
    assert told.facts["detail"] == 'Failed to pull image "x:1": no such host'
    alone = with_pods(pod)
    assert alone is not None
    assert alone.facts["detail"] == 'Back-off pulling image "x:1"'


def test_pods_without_a_place_are_counted() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/9 nodes"}
    told = with_pods(a_pod(), a_pod("q", "Pending", "", conditions=[unscheduled]))
    assert told is not None
    assert (told.code, told.facts) == ("unschedulable", {"pods": 2, "unschedulable": 1, "detail": "0/9 nodes"})


@pytest.mark.parametrize("nodes", [(), (a_node(ready="Unknown"),), (a_node("other"),)])
def test_a_node_that_does_not_answer_or_is_gone_is_named(nodes: tuple[Json, ...]) -> None:
    told = with_pods(a_pod(), nodes=nodes)
    assert told is not None
    assert (told.code, told.facts) == ("node_lost", {"node": "n1", "pod": "p"})


def test_a_pod_that_goes_with_its_node_tells_of_it_itself() -> None:
    gone = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    told = with_pods(a_pod(conditions=[gone]))
    assert told is not None
    assert told.code == "node_lost"


def test_a_container_that_keeps_ending_is_named() -> None:
    crash = {
        "name": "main",
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
    }
    told = with_pods(a_pod(containerStatuses=[crash]))
    assert told is not None
    assert (told.code, told.facts["cause"], told.facts["restarts"]) == ("container_cannot_start", "CrashLoopBackOff", 4)


def test_a_job_whose_pods_run_has_no_reason() -> None:
    assert with_pods(a_pod(), a_pod("q", "Succeeded"), nodes=(a_node(),)) is None


@pytest.mark.parametrize(("pods", "count"), [((), 0), ((a_pod(phase="Pending"),), 1)])
def test_pods_that_are_on_their_way(pods: tuple[Json, ...], count: int) -> None:
    told = with_pods(*pods)
    assert told is not None
    assert (told.code, told.facts) == ("pods_starting", {"pods": count})


def test_the_worst_of_several_pod_sets_counts() -> None:
    both = f"{UNUSED}; couldn't assign flavors to pod set w: untolerated taint {{a b c}} in flavor a100"
    assert read_wait(Condition(type="QuotaReserved", status="False", message=both)).wait is Wait.NO_FLAVOR
    worse = f"{UNUSED}; {TOO_LARGE}"
    assert read_wait(Condition(type="QuotaReserved", status="False", message=worse)).wait is Wait.EXCEEDS


def test_a_preemptor_without_a_path_is_still_known_by_its_uid() -> None:
    told = read_preemption("Preempted to accommodate a workload (UID: u-1, JobUID: j-1) due to x")
    assert told is not None
    assert (told.uid, told.cluster_queue) == ("u-1", None)
    assert read_preemption("The ClusterQueue is stopped") is None


@given(st.text(max_size=300), st.text(max_size=20))
def test_no_message_breaks_the_reading(message: str, reason: str) -> None:
    read_wait(Condition(type="QuotaReserved", status="False", reason=reason, message=message))
    read_preemption(message)


@given(st.text(max_size=2000))
def test_a_reason_quotes_no_more_than_a_line(message: str) -> None:
    told = explain(Observation(Workload.parse(pending(message)), state(TEAMS), line=line("mine")))
    assert told is not None
    assert len(told.message) < 700
    assert told.message.isprintable()


def test_a_reason_is_plain_json() -> None:
    told = why(pending(UNUSED), holding("search", "s", 8), line=line("mine"))
    assert isinstance(told.model_dump(mode="json")["facts"], Mapping)
