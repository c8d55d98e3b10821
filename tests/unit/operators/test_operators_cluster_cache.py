"""The operators' transform, cache, and the keys that a change affects."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.operators import desired_objects

from windlass.domain.quota import ledger
from windlass.kube.cache.store import Change, Store
from windlass.kube.cache.transform import transform_for_operators
from windlass.kube.kueue.parse import parse_workload
from windlass.kube.kueue.queues import ClusterQueue, LocalQueue
from windlass.kube.kueue.snapshot import KueueState, snapshot_from_cluster
from windlass.kube.objects import Ref
from windlass_operators.cluster_cache import ClusterCache, name_error
from windlass_operators.decide.project import usage_by_project
from windlass_operators.kinds import CLUSTER_QUEUE, COHORT, ENDPOINT, LOCAL_QUEUE, NODE, POOL, PROJECT
from windlass_operators.render import queues as render
from windlass_operators.work_queue import Key

Json = dict[str, Any]
QUOTAS = [{"pool": "a100", "nominal": 1}]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def queue(version: int, uid: str = "u1", name: str = "q", **spec: Any) -> Json:
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": metadata, "spec": spec}


def test_transform_strips_nodes_and_workloads() -> None:
    store = Store(transform_for_operators)
    node = desired_objects.node("n")
    node["status"]["images"] = ["many"]
    node["metadata"] |= {"uid": "n", "resourceVersion": "1", "managedFields": ["long"], "annotations": {"a": "b"}}
    store.put(node)
    [kept] = store.all(NODE)
    assert set(kept["status"]) == {"capacity", "allocatable", "conditions"}
    assert set(kept["metadata"]) == {"name", "labels", "uid", "resourceVersion"}


def raw(kind: str, name: str, version: int = 1, generation: int = 1, **fields: Any) -> Json:
    metadata = {"name": name, "uid": f"{kind}-{name}", "resourceVersion": str(version), "generation": generation}
    return {"apiVersion": "windlass.dev/v1alpha1", "kind": kind, "metadata": metadata} | fields


def cluster_cache() -> ClusterCache:
    store = Store(transform_for_operators)
    for name, cohort in (("search", "lab"), ("ranking", "lab"), ("alone", None)):
        spec: Json = {"quotas": QUOTAS} | ({"cohort": cohort} if cohort else {})
        store.put(raw("Project", name, spec=spec))
    for name in ("a100", "h100"):
        store.put(raw("GPUPool", name, spec={"nodeLabels": {"pool": name}}))
    return ClusterCache(store, lambda: NOW)


def affected(cached: ClusterCache, after: Json | None, before: Json | None = None) -> set[Key]:
    subject = after or before
    assert subject is not None
    return cached.affected_keys(Change(Ref.of(subject), before, after))


def test_workload_affects_its_project_and_pool() -> None:
    for project in ("search", "alone"):
        keys = affected(cluster_cache(), desired_objects.workload(project, "w", 1))
        assert keys == {Key(PROJECT, project), Key(POOL, "a100")}


def with_queues(cached: ClusterCache) -> ClusterCache:
    for project in cached.projects().values():
        for one in render.objects(project, cached.pools()):
            cached.store.put(
                one | {"metadata": one["metadata"] | {"uid": one["metadata"]["name"], "resourceVersion": "1"}}
            )
    return cached


def versioned(subject: Json, version: int) -> Json:
    return subject | {"metadata": subject["metadata"] | {"resourceVersion": str(version)}}


def test_only_members_whose_usage_changed_are_reported() -> None:
    """B6: one event must not wake the whole cohort."""
    cached, reported = with_queues(cluster_cache()), list[set[str]]()
    cached.subscribe(lambda _: None, reported.append)
    search = cached.projects()["search"]
    assert cached.usage(search, cached.pools())["a100"].used == 0
    cached.store.put(versioned(desired_objects.workload("search", "w", 1), 2))
    assert cached.usage(search, cached.pools())["a100"].used == 1
    assert reported == [], "within its nominal quota nothing changes for others"
    cached.store.put(versioned(desired_objects.workload("search", "v", 1), 3))
    assert cached.usage(search, cached.pools())["a100"].borrowed_from[0].project == "ranking"
    assert reported == [{"ranking"}], "it lends now"
    cached.usage(cached.projects()["ranking"], cached.pools())
    assert reported == [{"ranking"}], "the usage of the cohort was computed already"


def test_usage_is_computed_once_per_change(monkeypatch: pytest.MonkeyPatch) -> None:
    cached, computed = with_queues(cluster_cache()), list[int]()

    def counted(*args: Any) -> Any:
        computed.append(1)
        return usage_by_project(*args)

    monkeypatch.setattr("windlass_operators.usage.usage_by_project", counted)
    for _ in range(3):
        for project in cached.projects().values():
            cached.usage(project, cached.pools())
    assert len(computed) == 2, "one per cohort, and one for the project without a cohort"
    cached.store.put(versioned(desired_objects.workload("alone", "w", 1), 2))
    for project in cached.projects().values():
        cached.usage(project, cached.pools())
    assert len(computed) == 3
    assert cached.pool_usage("a100", cached.pools()) == {"alone": 1}


def test_a_requeued_workload_is_pending_when_its_backoff_is_over() -> None:
    now = NOW
    cached = with_queues(cluster_cache())
    cached = ClusterCache(cached.store, lambda: now)
    waits = desired_objects.workload("search", "w", 1, admitted=False)
    waits["status"] = {"requeueState": {"count": 1, "requeueAt": "2026-11-22T12:00:10Z"}}
    cached.store.put(versioned(waits, 2))
    search = cached.projects()["search"]
    assert cached.usage(search, cached.pools())["a100"].pending == 0
    now += timedelta(seconds=10)
    assert cached.usage(search, cached.pools())["a100"].pending == 1


def test_the_operators_and_the_control_plane_count_the_same_demands() -> None:
    """Each row differed when both had a function of their own."""
    ended = desired_objects.workload("search", "ended", 1)
    ended["status"]["conditions"].append({"type": "Finished", "status": "True"})
    evicted = desired_objects.workload("search", "evicted", 2)
    evicted["status"]["conditions"].append({"type": "Evicted", "status": "True"})
    going = desired_objects.workload("search", "going", 2, admitted=False)
    going["metadata"]["deletionTimestamp"] = desired_objects.MADE
    young = desired_objects.workload("search", "young", 3, admitted=False)
    young["status"] = {}
    partly = desired_objects.workload("search", "partly", 8)
    partly["status"]["admission"]["podSetAssignments"][0]["count"] = 4
    partly["spec"]["podSets"][0]["count"] = 4
    partly["status"]["reclaimablePods"] = [{"name": "main", "count": 3}]
    giga = desired_objects.workload("alone", "giga", 1)
    giga["status"]["admission"]["podSetAssignments"][0]["resourceUsage"] = {"nvidia.com/gpu": "1Ki"}
    cached = with_queues(cluster_cache())
    workloads = (ended, evicted, going, young, partly, giga)
    for number, one in enumerate(workloads):
        cached.store.put(versioned(one, number + 2))
    found = {name: cached.usage(each, cached.pools())["a100"] for name, each in cached.projects().items()}
    assert (found["search"].used, found["search"].pending) == (4, 1), "evicted and the rest of partly; young waits"
    assert (found["alone"].used, found["alone"].overcommitted) == (1024, 1023)
    state = KueueState(
        now=NOW,
        pools=tuple(cached.pools().values()),
        cluster_queues=ClusterQueue.parse_all(cached.store.all(CLUSTER_QUEUE)),
        local_queues=LocalQueue.parse_all(cached.store.all(LOCAL_QUEUE)),
        workloads=tuple(parse_workload(one) for one in workloads),
    )
    demands = {demand.job: demand for demand in snapshot_from_cluster(state).demands}
    assert {job: demand.gpus for job, demand in demands.items()} == {
        "wl-search/evicted": 2,
        "wl-search/young": 3,
        "wl-search/partly": 2,
        "wl-alone/giga": 1024,
    }
    rows = {row.project: row for row in ledger(snapshot_from_cluster(state)) if row.pool == "a100"}
    for name, use in found.items():
        assert (use.used, use.pending, use.reclaimable) == (rows[name].used, rows[name].pending, rows[name].reclaimable)


def test_status_change_affects_only_the_resource_itself() -> None:
    before = raw("Project", "search", spec={"cohort": "lab"})
    after = raw("Project", "search", version=2, spec={"cohort": "lab"}, status={"used": 3})
    assert affected(cluster_cache(), after, before) == {Key(PROJECT, "search")}


def test_foreign_spec_in_the_response_to_a_write_is_propagated() -> None:
    """The watch reports the same version later, which is no change any more."""
    cached, propagated = cluster_cache(), list[Change]()
    cached.subscribe(propagated.append, lambda _: None)
    written = raw("Project", "search", version=5, spec={"cohort": "lab", "quotas": QUOTAS}, status={"used": 3})
    cached.record(written)
    cached.record(raw("Project", "search", version=7, generation=2, spec={}, status={"used": 3}))
    assert [cached.is_foreign(change) for change in propagated] == [False, True]
    assert Key(PROJECT, "ranking") in cached.affected_keys(propagated[1])
    assert cached.store.put(raw("Project", "search", version=7, generation=2, spec={}, status={"used": 3})) is None


def test_quota_change_affects_the_pools_and_by_usage_the_members() -> None:
    cached, reported = with_queues(cluster_cache()), list[set[str]]()
    cached.subscribe(lambda _: None, reported.append)
    for number in range(2):
        cached.store.put(versioned(desired_objects.workload("search", f"w{number}", 1), 2))
    before = raw("Project", "search", spec={"cohort": "lab", "quotas": QUOTAS})
    after = raw(
        "Project", "search", version=3, generation=2, spec={"cohort": "lab", "quotas": [QUOTAS[0] | {"nominal": 9}]}
    )
    assert affected(cached, after, before) == {Key(PROJECT, "search"), Key(POOL, "a100"), Key(POOL, "h100")}
    cached.usage(cached.projects()["search"], cached.pools())
    cached.store.put(after)
    cached.usage(cached.projects()["search"], cached.pools())
    assert reported == [{"ranking"}], "it lends nothing any more"


def test_node_affects_the_pools_whose_labels_it_has_or_had() -> None:
    before, after = desired_objects.node("n", "a100"), desired_objects.node("n", "h100")
    for one in (before, after):
        one["metadata"]["labels"] = {"pool": one["metadata"]["labels"]["windlass.dev/pool"], "zone": "x"}
    assert affected(cluster_cache(), before) == {Key(POOL, "a100")}
    assert affected(cluster_cache(), after, before) == {Key(POOL, "a100"), Key(POOL, "h100")}
    strange = after | {"metadata": {"name": "n", "labels": {"zone": "x"}}}
    assert affected(cluster_cache(), strange) == set()


def test_project_that_leaves_its_cohort_affects_the_members_and_the_cohort() -> None:
    before = raw("Project", "search", spec={"cohort": "lab"})
    after = raw("Project", "search", version=2, generation=2, spec={})
    affected_keys = affected(cluster_cache(), after, before)
    assert {Key(PROJECT, "ranking"), Key(COHORT, "windlass-lab"), Key(POOL, "a100")} <= affected_keys
    assert Key(PROJECT, "alone") not in affected_keys


def test_display_name_affects_no_others_and_a_fixed_project_affects_its_cohort() -> None:
    cached = cluster_cache()
    before = raw("Project", "search", spec={"cohort": "lab"})
    after = raw("Project", "search", version=2, generation=2, spec={"cohort": "lab", "displayName": "Search"})
    assert affected(cached, after, before) == {Key(PROJECT, "search")}
    unreadable = raw("Project", "search", spec={"cohort": "lab", "members": 7})
    assert Key(PROJECT, "ranking") in affected(cached, after, unreadable)


def test_cohort_members() -> None:
    cached = cluster_cache()
    assert set(cached.cohort_members(cached.projects()["search"])) == {"search", "ranking"}
    assert set(cached.cohort_members(cached.projects()["alone"])) == {"alone"}
    assert cached.project("nobody") is None


def test_child_affects_the_owner_in_its_labels() -> None:
    child = queue(1)
    for label, key in (
        ({"windlass.dev/project": "search", "windlass.dev/pool": "a100"}, Key(PROJECT, "search")),
        ({"windlass.dev/pool": "a100"}, Key(POOL, "a100")),
        ({"windlass.dev/endpoint": "live", "windlass.dev/project": "search"}, Key(ENDPOINT, "live")),
    ):
        child["metadata"]["labels"] = label
        assert affected(cluster_cache(), child) == {key}


def test_invalid_project_is_omitted_and_its_quotas_count() -> None:
    cached = cluster_cache()
    cached.store.put(
        raw("Project", "broken", spec={"quotas": [{"pool": "h100", "nominal": "many"}, 7], "cohort": "lab"})
    )
    cached.store.put(raw("Project", "odd", spec={"quotas": "none"}))
    assert set(cached.projects()) == {"search", "ranking", "alone"}
    assert ("broken", "h100") in set(cached.quotas())
    assert set(cached.members("lab")) == {"search", "ranking", "broken"}


def test_unknown_fields_are_valid() -> None:
    cached = cluster_cache()
    spec = {"nodeLabels": {"pool": "a100"}, "sharing": "none", "taints": [{"key": "gpu", "since": "now"}]}
    cached.store.put(raw("GPUPool", "a100", version=2, spec=spec))
    assert cached.pools()["a100"].spec.taints[0].key == "gpu"
    assert cached.invalid_pools() == []
    cached.store.put(raw("GPUPool", "a100", version=3, spec={"nodeLabels": "all"}))
    assert cached.invalid_pools() == ["a100"]


def test_deleted_resource_is_dropped_from_the_model_cache() -> None:
    cached = cluster_cache()
    assert set(cached.projects()) == {"search", "ranking", "alone"}
    cached.store.delete(raw("Project", "alone", version=2))
    assert set(cached.projects()) == {"search", "ranking"}
    assert len(cached._projects) == 2


def test_invalid_workload_does_not_hide_others() -> None:
    cached = with_queues(cluster_cache())
    odd = desired_objects.workload("search", "odd", 1)
    odd["status"]["admission"]["podSetAssignments"][0]["resourceUsage"] = {"nvidia.com/gpu": "many"}
    for one in (odd, desired_objects.workload("search", "plain", 2)):
        cached.store.put(versioned(one, 2))
    assert cached.usage(cached.projects()["search"], cached.pools())["a100"].used == 2


def test_dot_in_a_name_is_rejected() -> None:
    assert name_error("search") == ""
    assert "a.b" in name_error("a.b")
