"""One Reason for each state of a job or task, and a row for each in the reference."""

import re

import pytest
from tests.architecture.tree import ROOT
from tests.unit.kube.job_states import (
    STATES,
    TASK_FAILED,
    TRACEBACK,
    TRAINER_FAILED,
    WAITING,
    ExplainedState,
    failed,
    output,
    pod,
    ray_job,
    terminated,
    unschedulable,
)
from tests.unit.kube.kueue_objects import admitted, project, state

from windlass.domain.jobs import Reason
from windlass.kube.cache.transform import transform
from windlass.kube.explain_job import explain_trainer_failure, explain_waiting_job
from windlass.kube.kueue.cluster_objects import Pod, RayJob
from windlass.kube.kueue.explain import WorkloadObservation
from windlass.kube.kueue.pods import explain_ended_pods

PAGE = ROOT / "docs" / "reference" / "reasons-in-a-cluster.md"
TEAM = [project("search", {"pool": "a100", "nominal": 8})]


def explain_waiting(case: ExplainedState) -> Reason | None:
    """Explain a job that Kueue has admitted."""
    cluster_state = state(TEAM, admitted("search", "mine", 4))
    observation = WorkloadObservation(cluster_state.workloads[0], cluster_state, pods=Pod.parse_all(case.pods))
    kept = transform(case.ray_job) if case.ray_job else None
    return explain_waiting_job(observation, RayJob.parse(kept) if kept else None)


def explain(case: ExplainedState) -> Reason | None:
    if case.layer == "waiting":
        return explain_waiting(case)
    if case.layer == "trainer failed":
        return explain_trainer_failure(RayJob.parse(case.ray_job), Pod.parse_all(case.pods))
    return explain_ended_pods(Pod.parse_all(case.pods))


@pytest.mark.parametrize("case", STATES, ids=lambda case: case.situation)
def test_a_state_has_one_reason_that_says_what_to_do(case: ExplainedState) -> None:
    reason = explain(case)
    assert reason is not None
    assert (reason.code, reason.action_by.value) == (case.code, case.action_by)
    assert {name: reason.context.get(name) for name in case.context} == case.context
    assert reason.action
    assert "\n" not in reason.message


@pytest.mark.parametrize("case", STATES, ids=lambda case: case.situation)
def test_transformed_pods_have_the_same_reason(case: ExplainedState) -> None:
    small = [
        transform({"apiVersion": "v1", "kind": "Pod", **one, "metadata": one["metadata"] | {"namespace": "wl-search"}})
        for one in case.pods
    ]
    transformed = ExplainedState(
        case.situation, case.code, case.action_by, case.context, case.layer, [one for one in small if one], case.ray_job
    )
    assert explain(transformed) == explain(case)


def test_the_reference_has_a_row_for_each_state() -> None:
    for title, cases in (
        ("## While a job waits for its pods", WAITING),
        ("## After its trainer has failed", TRAINER_FAILED),
        ("## After a run or task has failed", TASK_FAILED),
    ):
        section = PAGE.read_text("utf-8").split(title)[1].split("\n## ")[0]
        rows = re.findall(r"^\| (.+?) \| `([a-z_]+)` \| `([a-z]+)` \|", section, re.MULTILINE)
        assert rows == [(case.situation, case.code, case.action_by) for case in cases]


def test_pods_that_run_hide_what_has_happened_before() -> None:
    before = pod("ray-worker", {"ready": True, "state": {"running": {}}, "lastState": terminated(137, "OOMKilled")})
    evicted = pod("ray-worker", phase="Failed", reason="Evicted", message="low on memory")
    case = ExplainedState("", "", "none", {}, "waiting", [before, evicted])
    assert explain(case) is None


def test_a_pod_that_fits_no_node_is_the_cause_and_not_the_eviction_before() -> None:
    evicted = pod("ray-worker", phase="Failed", reason="Evicted", message="low on memory")
    reason = explain(ExplainedState("", "", "none", {}, "waiting", [evicted, unschedulable("0/4 nodes are available")]))
    assert reason is not None
    assert reason.code == "unschedulable"


def test_memory_that_the_user_can_reduce_comes_before_an_eviction() -> None:
    evicted = pod("ray-worker", phase="Failed", reason="Evicted", message="low on memory")
    killed = pod("ray-worker", {"state": {"running": {}}, "lastState": terminated(137, "OOMKilled")})
    case = ExplainedState("", "", "none", {}, "trainer failed", [evicted, killed], failed(output(1, TRACEBACK)))
    reason = explain(case)
    assert reason is not None
    assert (reason.code, reason.action_by.value) == ("oom_killed", "user")


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"},
        {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"},
    ],
)
def test_a_trainer_that_has_not_failed_has_no_reason(status: dict[str, str]) -> None:
    assert explain_trainer_failure(RayJob.parse(ray_job(**status)), ()) is None
