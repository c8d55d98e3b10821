"""From what a cluster holds to the input of the domain's scheduler, and what ledger and simulation say of it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kube.kueue_objects import GPU, condition, holding, pool, project, second, state, wanting

from windlass.domain.errors import InvalidError
from windlass.domain.quota import accounts, check_quotas, ledger, schedule, simulate
from windlass.domain.quota.model import Claim
from windlass.kube.kueue.queues import ClusterQueue, Cohort, LocalQueue
from windlass.kube.kueue.reading import whole
from windlass.kube.kueue.snapshot import take_snapshot, unmodelled
from windlass.kube.kueue.workload import Workload

SEARCH = project("search", {"pool": "a100", "nominal": 8, "borrowingLimit": 4, "lendingLimit": 6})
RANKING = project("ranking", {"pool": "a100", "nominal": 4})
TEAMS = [SEARCH, RANKING]


def test_the_ledger_reads_the_same_in_a_cluster() -> None:
    found = state(
        TEAMS, holding("search", "s1", 10, at=1), wanting("search", "s2", 3, at=2), pools=(pool(capacity=10),)
    )
    rows = {row.project: row for row in ledger(take_snapshot(found))}
    search, ranking = rows["search"], rows["ranking"]
    assert (search.nominal, search.used, search.borrowed_from, search.pending) == (8, 10, {"ranking": 2}, 1)
    assert (ranking.lent_to, ranking.reclaimable, ranking.free) == ({"search": 2}, 2, 2)
    assert [problem.code for problem in check_quotas(take_snapshot(found, bounded=True))] == ["overcommitted"]
    assert check_quotas(take_snapshot(found)) == ()


def test_an_account_names_who_waits_in_order_and_what_is_overcommitted() -> None:
    cut = [project("search", {"pool": "a100", "nominal": 2}, cohort=None), RANKING]
    urgent = wanting("search", "urgent", 1, priority=3, at=4)
    told = (holding("search", "s1", 5), wanting("search", "late", 1, at=3), urgent)
    [ranking, search] = accounts(take_snapshot(state(cut, *told)))
    assert (search.row.project, search.overcommitted, search.row.used) == ("search", 3, 5)
    assert [(each.claim.job, each.verdict.position) for each in search.waiting] == [
        ("wl-search/urgent", 1),
        ("wl-search/late", 2),
    ]
    assert (ranking.waiting, ranking.overcommitted) == ((), 0)


def test_a_pending_job_is_predicted_with_its_place() -> None:
    found = state(
        TEAMS, holding("search", "s1", 10), wanting("search", "s2", 3, at=2), wanting("search", "s3", 1, at=3)
    )
    waiting = schedule(take_snapshot(found)).waiting
    assert {job: verdict.position for job, verdict in waiting.items()} == {"wl-search/s2": 1, "wl-search/s3": 2}


def test_a_job_is_simulated_against_what_the_cluster_holds() -> None:
    found = state(TEAMS, holding("search", "s1", 10))
    now = datetime(2026, 11, 22, 11, tzinfo=UTC)
    mine = Claim(job="new", project="ranking", pool="a100", gpus=4, queued_at=now)
    simulation = simulate(take_snapshot(found), mine)
    assert (simulation.verdict, simulation.would_preempt) == ("waits", ("wl-search/s1",))
    assert simulate(take_snapshot(found), mine.model_copy(update={"gpus": 2})).verdict == "starts"
    assert simulate(take_snapshot(found), mine.model_copy(update={"gpus": 11})).verdict == "never"


def test_a_claim_carries_what_kueue_decides_by() -> None:
    told = holding("search", "s1", 2, priority=5, at=7)
    told["metadata"]["creationTimestamp"] = second(3)
    [claim] = take_snapshot(state(TEAMS, told)).claims
    assert (claim.project, claim.pool, claim.gpus, claim.priority) == ("search", "a100", 2, 5)
    assert (claim.queued_at.second, claim.admitted_at and claim.admitted_at.second) == (3, 7)
    assert (claim.tiebreak, claim.leaving) == ("uid-s1", False)


def test_a_windlass_job_goes_by_its_id() -> None:
    told = wanting("search", "rayjob-job-0123", 1)
    identity = "0123456789abcdefghjkmnpqrs"
    told["metadata"]["ownerReferences"] = [
        {"kind": "RayJob", "name": f"job-{identity}-r2", "uid": "u", "controller": True}
    ]
    [claim] = take_snapshot(state(TEAMS, told)).claims
    assert claim.job == f"job_{identity}"


def test_two_workloads_of_one_owner_are_told_apart() -> None:
    one, two = wanting("search", "slice-1", 1), wanting("search", "slice-2", 1)
    for each in (one, two):
        each["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "elastic", "uid": "u"}]
    assert {claim.job for claim in take_snapshot(state(TEAMS, one, two)).claims} == {
        "wl-search/slice-1",
        "wl-search/slice-2",
    }


def evicted(told: dict[str, Any]) -> dict[str, Any]:
    told["status"]["conditions"].append(condition("Evicted", reason="Preempted"))
    return told


def inactive(told: dict[str, Any]) -> dict[str, Any]:
    told["spec"]["active"] = False
    return told


def test_what_was_told_to_stop_still_holds_its_gpus() -> None:
    told = (evicted(holding("search", "s1", 2)), inactive(holding("search", "s2", 1)), holding("search", "s3", 1))
    claims = {claim.job: claim.leaving for claim in take_snapshot(state(TEAMS, *told)).claims}
    assert claims == {"wl-search/s1": True, "wl-search/s2": True, "wl-search/s3": False}


def finished() -> dict[str, Any]:
    told = holding("search", "s1", 2)
    told["status"]["conditions"].append(condition("Finished", reason="Succeeded"))
    return told


def backing_off() -> dict[str, Any]:
    return wanting("search", "s1", 2) | {"status": {"requeueState": {"count": 1, "requeueAt": "2099-01-01T00:00:00Z"}}}


def nowhere() -> dict[str, Any]:
    told = wanting("search", "s1", 2)
    told["spec"]["queueName"] = "typo"
    return told


@pytest.mark.parametrize(
    "told",
    [finished(), backing_off(), nowhere(), inactive(wanting("search", "s1", 2)), wanting("search", "s1", 0)],
    ids=["finished", "backing-off", "no-queue", "inactive", "no-gpu"],
)
def test_what_neither_wants_nor_holds_gpus_is_no_claim(told: dict[str, Any]) -> None:
    assert take_snapshot(state(TEAMS, told)).claims == ()


def test_pods_that_ended_have_given_their_gpus_back() -> None:
    told = holding("search", "s1", 8)
    told["status"]["admission"]["podSetAssignments"][0]["count"] = 4
    told["status"]["reclaimablePods"] = [{"name": "main", "count": 3}]
    [claim] = take_snapshot(state(TEAMS, told)).claims
    assert claim.gpus == 2


@pytest.mark.parametrize(
    ("spec", "asked"),
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
def test_a_pods_gpus_are_counted_as_the_scheduler_counts_them(spec: dict[str, Any], asked: int) -> None:
    workload = Workload.parse({"spec": {"podSets": [{"name": "w", "count": 2, "template": {"spec": spec}}]}})
    assert workload.asked(GPU) == 2 * asked


def test_a_stopped_queue_lets_nothing_start() -> None:
    found = state(TEAMS, wanting("search", "s1", 1))
    [search, *others] = found.cluster_queues
    held = search.model_copy(update={"spec": search.spec.model_copy(update={"stop_policy": "Hold"})})
    no_flavor = {"conditions": [condition("Active", status=False, reason="FlavorNotFound")]}
    inactive = ClusterQueue.model_validate({**search.model_dump(), "status": no_flavor})
    for queue in (held, inactive):
        verdict = schedule(take_snapshot(replace(found, cluster_queues=(queue, *others)))).waiting["wl-search/s1"]
        assert verdict.code.value == "queue_stopped"
    closed = LocalQueue.parse(
        {
            "metadata": {"name": "a100", "namespace": "wl-search"},
            "spec": {"clusterQueue": "search.a100", "stopPolicy": "HoldAndDrain"},
        }
    )
    assert schedule(take_snapshot(replace(found, local_queues=(closed,)))).admit == ()
    assert schedule(take_snapshot(found)).admit == ("wl-search/s1",)


def foreign(**changes: Any) -> ClusterQueue:
    flavor = {"name": "a100", "resources": [{"name": GPU, "nominalQuota": "1k"}]}
    spec = {"cohortName": "windlass-lab", "resourceGroups": [{"coveredResources": [GPU], "flavors": [flavor]}]}
    labels = {"windlass.dev/project": "search", "windlass.dev/pool": "a100"}
    return ClusterQueue.parse({"metadata": {"name": "search", "labels": labels}, "spec": spec | changes})


def test_a_foreign_queue_lends_and_is_nobodys_in_spite_of_its_labels() -> None:
    found = state(TEAMS)
    found = replace(found, cluster_queues=(*found.cluster_queues, foreign()))
    rows = {row.project: row for row in ledger(take_snapshot(found))}
    assert rows["queue:search"].nominal == 1000
    assert rows["search"].nominal == 8
    assert unmodelled(found) == ("ClusterQueue search queues or preempts otherwise than the queues of Windlass",)


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
    found = replace(state(TEAMS, wanting("search", "s1", 3)), cluster_queues=(queue,))
    assert (found.pool_of(queue), unmodelled(found)) == ("a100", ())
    assert schedule(take_snapshot(found)).admit == ("wl-search/s1",)


def test_what_the_rules_do_not_know_is_named() -> None:
    tree = Cohort.parse({"metadata": {"name": "windlass-lab"}, "spec": {"parentName": "all"}})
    rich = Cohort.parse({"metadata": {"name": "rich"}, "spec": {"resourceGroups": [{"coveredResources": [GPU]}]}})
    found = replace(state(TEAMS), cohorts=(tree, rich))
    assert [words.split(" has ")[1].split()[0] for words in unmodelled(found)] == ["a", "quota"]
    assert unmodelled(state(TEAMS)) == ()


@pytest.mark.parametrize(
    ("written", "meant"),
    [("8", 8), (8, 8), ("1k", 1000), ("2Ki", 2048), ("500m", 1), ("1500m", 2), ("0", 0), ("1e3", 1000), ("-1", -1)],
)
def test_quantities_are_read_as_kubernetes_writes_them(written: object, meant: int) -> None:
    assert whole(written) == meant


@given(st.integers(-(10**12), 10**12))
def test_every_integer_is_a_quantity(number: int) -> None:
    assert whole(str(number)) == number


@pytest.mark.parametrize(
    "text", ["", "GPU", "1KB", "k", "NaN", "inf", "Infinity", "1 000", "1_0", "0x10", "1e999", "8\n"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="no quantity"):
        whole(text)
