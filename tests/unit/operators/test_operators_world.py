"""What the operators keep of the cluster, how they read it, and whom a change concerns."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import kopf
from kubernetes.client import Configuration
from tests.unit.operators import wishes

from windlass.kube.client import Client
from windlass.kube.store import Store
from windlass_operators.handlers import Reconciler
from windlass_operators.kinds import COHORT, ENDPOINT, NODE, POOL, PROJECT
from windlass_operators.operator import Operator
from windlass_operators.queue import Key
from windlass_operators.render.model_endpoint import Serving
from windlass_operators.slimming import slim
from windlass_operators.world import World, wrong_name

Json = dict[str, Any]


def queue(version: int, uid: str = "u1", name: str = "q", **spec: Any) -> Json:
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": metadata, "spec": spec}


def test_of_nodes_and_workloads_only_what_is_read_is_kept() -> None:
    store = Store(slim)
    node = wishes.node("n")
    node["status"]["images"] = ["many"]
    node["metadata"] |= {"uid": "n", "resourceVersion": "1", "managedFields": ["long"], "annotations": {"a": "b"}}
    store.put(node)
    [kept] = store.all(NODE)
    assert set(kept["status"]) == {"capacity", "allocatable", "conditions"}
    assert set(kept["metadata"]) == {"name", "labels", "uid", "resourceVersion"}


def raw(kind: str, name: str, version: int = 1, generation: int = 1, **fields: Any) -> Json:
    metadata = {"name": name, "uid": f"{kind}-{name}", "resourceVersion": str(version), "generation": generation}
    return {"apiVersion": "windlass.dev/v1alpha1", "kind": kind, "metadata": metadata} | fields


def world() -> World:
    store = Store(slim)
    for name, cohort in (("search", "lab"), ("ranking", "lab"), ("alone", None)):
        spec = {"quotas": [{"pool": "a100", "nominal": 1}]} | ({"cohort": cohort} if cohort else {})
        store.put(raw("Project", name, spec=spec))
    for name in ("a100", "h100"):
        store.put(raw("GPUPool", name, spec={"nodeLabels": {"pool": name}}))
    return World(store)


def test_a_workload_concerns_who_lends_to_its_project_and_the_pool() -> None:
    concerned = world().concerned(wishes.workload("search", "w", 1), None)
    assert concerned == {Key(PROJECT, "search"), Key(PROJECT, "ranking"), Key(POOL, "a100")}
    assert world().concerned(wishes.workload("alone", "w", 1), None) == {Key(PROJECT, "alone"), Key(POOL, "a100")}


def test_a_status_that_we_wrote_wakes_nobody_else() -> None:
    before = raw("Project", "search", spec={"cohort": "lab"})
    after = raw("Project", "search", version=2, spec={"cohort": "lab"}, status={"used": 3})
    assert world().concerned(after, before) == {Key(PROJECT, "search")}


def test_a_new_wish_wakes_the_others_though_the_answer_to_our_own_write_held_it_already() -> None:
    seen, client = world(), Client(Configuration())
    reconciler = Reconciler(client, seen, lambda: datetime.now(UTC), "windlass-system", Serving("", ""))
    stop = asyncio.Event()
    operator = Operator(client, seen, reconciler, resync_seconds=300, workers=1, beat=lambda: None, stop=stop)

    async def told(subject: Json) -> set[Key]:
        operator._queue._due.clear()
        await operator._changed({"type": "MODIFIED", "object": cast("kopf.RawBody", subject)})
        return set(operator._queue._due)

    async def scene() -> set[Key]:
        await told(raw("Project", "search", version=5, spec={"cohort": "lab"}))
        seen.store.put(raw("Project", "search", version=7, generation=2, spec={}, status={"used": 3}))
        return await told(raw("Project", "search", version=6, generation=2, spec={}))

    assert Key(PROJECT, "ranking") in asyncio.run(scene())


def test_a_project_that_leaves_its_cohort_wakes_those_that_stay_and_the_cohort() -> None:
    before = raw("Project", "search", spec={"cohort": "lab"})
    after = raw("Project", "search", version=2, generation=2, spec={})
    concerned = world().concerned(after, before)
    assert {Key(PROJECT, "ranking"), Key(COHORT, "windlass-lab"), Key(POOL, "a100")} <= concerned
    assert Key(PROJECT, "alone") not in concerned


def test_a_word_for_people_concerns_nobody_else_and_a_mended_project_all_that_it_lends_to() -> None:
    seen = world()
    before = raw("Project", "search", spec={"cohort": "lab"})
    after = raw("Project", "search", version=2, generation=2, spec={"cohort": "lab", "displayName": "Search"})
    assert seen.concerned(after, before) == {Key(PROJECT, "search")}
    unreadable = raw("Project", "search", spec={"cohort": "lab", "members": 7})
    assert Key(PROJECT, "ranking") in seen.concerned(after, unreadable)


def test_a_cohorts_mates_are_found_and_no_others() -> None:
    seen = world()
    assert set(seen.cohort_mates(seen.projects()["search"])) == {"search", "ranking"}
    assert set(seen.cohort_mates(seen.projects()["alone"])) == {"alone"}
    assert seen.project("nobody") is None


def test_a_child_concerns_the_owner_in_its_label() -> None:
    child = queue(1)
    for label, key in (
        ({"windlass.dev/project": "search", "windlass.dev/pool": "a100"}, Key(PROJECT, "search")),
        ({"windlass.dev/pool": "a100"}, Key(POOL, "a100")),
        ({"windlass.dev/endpoint": "live", "windlass.dev/project": "search"}, Key(ENDPOINT, "live")),
    ):
        child["metadata"]["labels"] = label
        assert world().concerned(child, None) == {key}


def test_what_cannot_be_read_is_left_out_and_its_quotas_still_count() -> None:
    seen = world()
    seen.store.put(raw("Project", "broken", spec={"quotas": [{"pool": "h100", "nominal": "many"}, 7], "cohort": "lab"}))
    seen.store.put(raw("Project", "odd", spec={"quotas": "none"}))
    assert set(seen.projects()) == {"search", "ranking", "alone"}
    assert ("broken", "h100") in set(seen.quotas())
    assert set(seen.members("lab")) == {"search", "ranking", "broken"}


def test_a_field_of_a_newer_definition_makes_nothing_unreadable() -> None:
    seen = world()
    spec = {"nodeLabels": {"pool": "a100"}, "sharing": "none", "taints": [{"key": "gpu", "since": "now"}]}
    seen.store.put(raw("GPUPool", "a100", version=2, spec=spec))
    assert seen.pools()["a100"].spec.taints[0].key == "gpu"
    assert seen.unreadable_pools() == []
    seen.store.put(raw("GPUPool", "a100", version=3, spec={"nodeLabels": "all"}))
    assert seen.unreadable_pools() == ["a100"]


def test_what_is_gone_is_not_remembered_as_a_model_either() -> None:
    seen = world()
    assert set(seen.projects()) == {"search", "ranking", "alone"}
    seen.store.remove(raw("Project", "alone", version=2))
    assert set(seen.projects()) == {"search", "ranking"}
    assert {ref.name for ref in seen._read[PROJECT]} == {"search", "ranking"}


def test_a_workload_that_cannot_be_read_hides_no_other() -> None:
    seen = world()
    odd = wishes.workload("search", "odd", 1)
    odd["status"]["admission"]["podSetAssignments"][0]["resourceUsage"] = {"nvidia.com/gpu": "500m"}
    for one in (odd, wishes.workload("search", "plain", 2)):
        seen.store.put(one)
    assert [claim.gpus for claim in seen.claims_of(["search"], seen.pools())] == [2]


def test_a_dot_in_a_name_is_refused_since_two_pairs_would_share_a_queue() -> None:
    assert wrong_name("search") == ""
    assert "a.b" in wrong_name("a.b")
