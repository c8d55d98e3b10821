"""Cluster state as the input of the domain's scheduler, ledger and simulation."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kube.kueue_objects import GPU, admitted, condition, pending_workload, pool, project, second, state

from windlass.domain.errors import InvalidError
from windlass.domain.quota import accounts, check_quotas, ledger, schedule, simulate
from windlass.domain.quota.model import ResourceDemand
from windlass.kube.kueue.models import parse_quantity
from windlass.kube.kueue.queues import ClusterQueue, Cohort, LocalQueue
from windlass.kube.kueue.snapshot import snapshot_from_cluster, unsupported_settings
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import SLICE_REPLACEMENT_ANNOTATION

SEARCH = project("search", {"pool": "a100", "nominal": 8, "borrowingLimit": 4, "lendingLimit": 6})
RANKING = project("ranking", {"pool": "a100", "nominal": 4})
TEAMS = [SEARCH, RANKING]


def test_the_ledger_reads_the_same_in_a_cluster() -> None:
    found = state(
        TEAMS, admitted("search", "s1", 10, at=1), pending_workload("search", "s2", 3, at=2), pools=(pool(capacity=10),)
    )
    rows = {row.project: row for row in ledger(snapshot_from_cluster(found))}
    search, ranking = rows["search"], rows["ranking"]
    assert (search.nominal, search.used, search.borrowed_from, search.pending) == (8, 10, {"ranking": 2}, 1)
    assert (ranking.lent_to, ranking.reclaimable, ranking.free) == ({"search": 2}, 2, 2)
    assert [problem.code for problem in check_quotas(snapshot_from_cluster(found, bounded=True))] == ["overcommitted"]
    assert check_quotas(snapshot_from_cluster(found)) == ()


def test_ledger_lists_pending_jobs_in_order_and_overcommitment() -> None:
    cut = [project("search", {"pool": "a100", "nominal": 2}, cohort=None), RANKING]
    urgent = pending_workload("search", "urgent", 1, priority=3, at=4)
    subject = (admitted("search", "s1", 5), pending_workload("search", "late", 1, at=3), urgent)
    [ranking, search] = accounts(snapshot_from_cluster(state(cut, *subject)))
    assert (search.row.project, search.overcommitted, search.row.used) == ("search", 3, 5)
    assert [(each.demand.job, each.decision.position) for each in search.waiting] == [
        ("wl-search/urgent", 1),
        ("wl-search/late", 2),
    ]
    assert (ranking.waiting, ranking.overcommitted) == ((), 0)


def test_pending_job_is_predicted_with_its_position() -> None:
    found = state(
        TEAMS,
        admitted("search", "s1", 10),
        pending_workload("search", "s2", 3, at=2),
        pending_workload("search", "s3", 1, at=3),
    )
    waiting = schedule(snapshot_from_cluster(found)).waiting
    assert {job: verdict.position for job, verdict in waiting.items()} == {"wl-search/s2": 1, "wl-search/s3": 2}


def test_job_is_simulated_against_the_cluster_state() -> None:
    found = state(TEAMS, admitted("search", "s1", 10))
    now = datetime(2026, 11, 22, 11, tzinfo=UTC)
    mine = ResourceDemand(job="new", project="ranking", pool="a100", gpus=4, queued_at=now)
    simulation = simulate(snapshot_from_cluster(found), mine)
    assert (simulation.verdict, simulation.would_preempt) == ("waits", ("wl-search/s1",))
    assert simulate(snapshot_from_cluster(found), mine.model_copy(update={"gpus": 2})).verdict == "starts"
    assert simulate(snapshot_from_cluster(found), mine.model_copy(update={"gpus": 11})).verdict == "never"


def test_a_demand_has_the_fields_that_kueue_orders_by() -> None:
    subject = admitted("search", "s1", 2, priority=5, at=7)
    subject["metadata"]["creationTimestamp"] = second(3)
    [demand] = snapshot_from_cluster(state(TEAMS, subject)).demands
    assert (demand.project, demand.pool, demand.gpus, demand.priority) == ("search", "a100", 2, 5)
    assert (demand.queued_at.second, demand.admitted_at and demand.admitted_at.second) == (3, 7)
    assert (demand.tiebreak, demand.terminating) == ("uid-s1", False)


def test_windlass_job_is_named_by_its_id() -> None:
    subject = pending_workload("search", "rayjob-job-0123", 1)
    identity = "0123456789abcdefghjkmnpqrs"
    subject["metadata"]["ownerReferences"] = [
        {"kind": "RayJob", "name": f"job-{identity}-r2", "uid": "u", "controller": True}
    ]
    [demand] = snapshot_from_cluster(state(TEAMS, subject)).demands
    assert demand.job == f"job_{identity}"


def test_two_workloads_of_one_owner_have_separate_names() -> None:
    one, two = pending_workload("search", "slice-1", 1), pending_workload("search", "slice-2", 1)
    for each in (one, two):
        each["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "elastic", "uid": "u"}]
    assert {demand.job for demand in snapshot_from_cluster(state(TEAMS, one, two)).demands} == {
        "wl-search/slice-1",
        "wl-search/slice-2",
    }


def evicted(subject: dict[str, Any]) -> dict[str, Any]:
    subject["status"]["conditions"].append(condition("Evicted", reason="Preempted"))
    return subject


def inactive(subject: dict[str, Any]) -> dict[str, Any]:
    subject["spec"]["active"] = False
    return subject


def test_evicted_workload_still_holds_its_gpus() -> None:
    subject = (evicted(admitted("search", "s1", 2)), inactive(admitted("search", "s2", 1)), admitted("search", "s3", 1))
    demands = {demand.job: demand.terminating for demand in snapshot_from_cluster(state(TEAMS, *subject)).demands}
    assert demands == {"wl-search/s1": True, "wl-search/s2": True, "wl-search/s3": False}


def finished() -> dict[str, Any]:
    subject = admitted("search", "s1", 2)
    subject["status"]["conditions"].append(condition("Finished", reason="Succeeded"))
    return subject


def backing_off() -> dict[str, Any]:
    return pending_workload("search", "s1", 2) | {
        "status": {"requeueState": {"count": 1, "requeueAt": "2099-01-01T00:00:00Z"}}
    }


def nowhere() -> dict[str, Any]:
    subject = pending_workload("search", "s1", 2)
    subject["spec"]["queueName"] = "typo"
    return subject


@pytest.mark.parametrize(
    "subject",
    [
        finished(),
        backing_off(),
        nowhere(),
        inactive(pending_workload("search", "s1", 2)),
        pending_workload("search", "s1", 0),
    ],
    ids=["finished", "backing-off", "no-queue", "inactive", "no-gpu"],
)
def test_a_workload_that_neither_requests_nor_holds_gpus_has_no_demand(subject: dict[str, Any]) -> None:
    assert snapshot_from_cluster(state(TEAMS, subject)).demands == ()


def test_reclaimable_pods_release_their_gpus() -> None:
    subject = admitted("search", "s1", 8)
    subject["status"]["admission"]["podSetAssignments"][0]["count"] = 4
    subject["spec"]["podSets"][0]["count"] = 4
    subject["status"]["reclaimablePods"] = [{"name": "main", "count": 3}]
    [demand] = snapshot_from_cluster(state(TEAMS, subject)).demands
    assert demand.gpus == 2


def test_an_elastic_workload_that_became_smaller_holds_its_remaining_gpus() -> None:
    """Kueue does not change the counts of the admission."""
    subject = admitted("search", "s1", 8)
    subject["status"]["admission"]["podSetAssignments"][0]["count"] = 4
    subject["spec"]["podSets"][0]["count"] = 2
    [demand] = snapshot_from_cluster(state(TEAMS, subject)).demands
    assert demand.gpus == 4
    subject["status"]["reclaimablePods"] = [{"name": "main", "count": 1}]
    [demand] = snapshot_from_cluster(state(TEAMS, subject)).demands
    assert demand.gpus == 2


def test_a_slice_requests_what_it_has_in_addition_to_the_one_that_it_replaces() -> None:
    replaced, slice_ = admitted("search", "s1", 3), pending_workload("search", "s2", 5, at=1)
    slice_["metadata"]["annotations"] = {SLICE_REPLACEMENT_ANNOTATION: "wl-search/s1"}
    demands = snapshot_from_cluster(state(TEAMS, replaced, slice_)).demands
    assert {demand.job: demand.gpus for demand in demands} == {"wl-search/s1": 3, "wl-search/s2": 2}
    replaced["status"]["conditions"].append(condition("Finished"))
    [demand] = snapshot_from_cluster(state(TEAMS, replaced, slice_)).demands
    assert demand.gpus == 5


@pytest.mark.parametrize(
    ("spec", "requested"),
    [
        ({"containers": [{"resources": {"limits": {GPU: "2"}}}, {"resources": {"requests": {GPU: 1}}}]}, 3),
        (
            {
                "containers": [{"resources": {"requests": {GPU: "1"}}}],
                "initContainers": [{"resources": {"requests": {GPU: "4"}}}],
            },
            4,
        ),
        (
            {
                "containers": [{"resources": {"requests": {GPU: "1"}}}],
                "initContainers": [
                    {"restartPolicy": "Always", "resources": {"requests": {GPU: "1"}}},
                    {"resources": {"requests": {GPU: "2"}}},
                ],
            },
            3,
        ),
        ({"containers": [{"name": "cpu-only", "resources": None}]}, 0),
    ],
)
def test_a_pods_gpus_are_counted_as_the_scheduler_counts_them(spec: dict[str, Any], requested: int) -> None:
    workload = Workload.parse({"spec": {"podSets": [{"name": "w", "count": 2, "template": {"spec": spec}}]}})
    assert workload.requested(GPU) == 2 * requested


def test_stopped_queue_admits_nothing() -> None:
    found = state(TEAMS, pending_workload("search", "s1", 1))
    [search, *others] = found.cluster_queues
    held = search.model_copy(update={"spec": search.spec.model_copy(update={"stop_policy": "Hold"})})
    no_flavor = {"conditions": [condition("Active", status=False, reason="FlavorNotFound")]}
    inactive = ClusterQueue.model_validate({**search.model_dump(), "status": no_flavor})
    for queue in (held, inactive):
        verdict = schedule(snapshot_from_cluster(replace(found, cluster_queues=(queue, *others)))).waiting[
            "wl-search/s1"
        ]
        assert verdict.code.value == "queue_stopped"
    closed = LocalQueue.parse(
        {
            "metadata": {"name": "a100", "namespace": "wl-search"},
            "spec": {"clusterQueue": "search.a100", "stopPolicy": "HoldAndDrain"},
        }
    )
    assert schedule(snapshot_from_cluster(replace(found, local_queues=(closed,)))).admit == ()
    assert schedule(snapshot_from_cluster(found)).admit == ("wl-search/s1",)


def foreign(**changes: Any) -> ClusterQueue:
    flavor = {"name": "a100", "resources": [{"name": GPU, "nominalQuota": "1k"}]}
    spec = {"cohortName": "windlass-lab", "resourceGroups": [{"coveredResources": [GPU], "flavors": [flavor]}]}
    labels = {"windlass.dev/project": "search", "windlass.dev/pool": "a100"}
    return ClusterQueue.parse({"metadata": {"name": "search", "labels": labels}, "spec": spec | changes})


def test_foreign_queue_lends_and_belongs_to_no_project() -> None:
    found = state(TEAMS)
    found = replace(found, cluster_queues=(*found.cluster_queues, foreign()))
    rows = {row.project: row for row in ledger(snapshot_from_cluster(found))}
    assert rows["queue:search"].nominal == 1000
    assert rows["search"].nominal == 8
    assert unsupported_settings(found) == (
        "ClusterQueue search has another queueing or preemption policy than Windlass queues",
    )


def test_a_flavor_that_counts_pods_is_no_pool() -> None:
    pods = {"name": "anywhere", "resources": [{"name": "pods", "nominalQuota": "1000"}]}
    gpus = {"name": "a100", "resources": [{"name": GPU, "nominalQuota": "4"}]}
    rendered = state(TEAMS).cluster_queues[0]
    spec = rendered.spec.model_dump(by_alias=True) | {
        "resourceGroups": [
            {"coveredResources": ["pods"], "flavors": [pods]},
            {"coveredResources": [GPU], "flavors": [gpus]},
        ]
    }
    queue = ClusterQueue.model_validate({"metadata": rendered.metadata.model_dump(by_alias=True), "spec": spec})
    found = replace(state(TEAMS, pending_workload("search", "s1", 3)), cluster_queues=(queue,))
    assert (found.pool_of(queue), unsupported_settings(found)) == ("a100", ())
    assert schedule(snapshot_from_cluster(found)).admit == ("wl-search/s1",)


def test_unsupported_settings_are_listed() -> None:
    tree = Cohort.parse({"metadata": {"name": "windlass-lab"}, "spec": {"parentName": "all"}})
    rich = Cohort.parse({"metadata": {"name": "rich"}, "spec": {"resourceGroups": [{"coveredResources": [GPU]}]}})
    found = replace(state(TEAMS), cohorts=(tree, rich))
    assert [words.split(" has ")[1].split()[0] for words in unsupported_settings(found)] == ["a", "quota"]
    assert unsupported_settings(state(TEAMS)) == ()


@pytest.mark.parametrize(
    ("written", "meant"),
    [("8", 8), (8, 8), ("1k", 1000), ("2Ki", 2048), ("500m", 1), ("1500m", 2), ("0", 0), ("1e3", 1000), ("-1", -1)],
)
def test_quantities_are_read_as_kubernetes_writes_them(written: object, meant: int) -> None:
    assert parse_quantity(written) == meant


@given(st.integers(-(10**12), 10**12))
def test_every_integer_is_a_quantity(number: int) -> None:
    assert parse_quantity(str(number)) == number


@pytest.mark.parametrize(
    "text", ["", "GPU", "1KB", "k", "NaN", "inf", "Infinity", "1 000", "1_0", "0x10", "1e999", "8\n"]
)
def test_invalid_quantity_is_rejected(text: str) -> None:
    with pytest.raises(InvalidError, match="not a Kubernetes quantity"):
        parse_quantity(text)
