"""A control plane in cluster mode: state sync, quotas computed from it, and quota changes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.cluster import CREATED_AT, MemoryView, make_pool, make_project, make_quota
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.cluster_sync import ProjectState
from windlass.domain.errors import UnavailableError
from windlass.domain.jobs import ActionOwner, Reason
from windlass.domain.projects import Member, Role
from windlass.domain.quota import Quota, ResourceDemand
from windlass.ports.leadership import NotLeaderError

SEARCH = make_project("search", 11, make_quota(4))
SPEECH = make_project("speech", 12, make_quota(4, managed_by="helm"))


def demand(project: str, job: str, gpus: int, *, queued: int = 0, admitted: int | None = None) -> ResourceDemand:
    """Return a demand; times are seconds after ``CREATED_AT``."""
    return ResourceDemand(
        job=f"wl-{project}/{job}",
        project=project,
        pool="a100",
        gpus=gpus,
        queued_at=CREATED_AT + timedelta(seconds=queued),
        admitted_at=None if admitted is None else CREATED_AT + timedelta(seconds=admitted),
        tiebreak=f"uid-{job}",
    )


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def harness(tmp_path: Path, view: MemoryView) -> Iterator[ControlPlaneHarness]:
    built = ControlPlaneHarness(tmp_path, cluster=view)
    with built.client:
        yield built
    built.close()


@pytest.fixture
def borrowed(harness: ControlPlaneHarness, view: MemoryView) -> ControlPlaneHarness:
    """Search uses 6 of 8 GPUs, 2 of them borrowed from speech; its jobs waited for 30 s and 90 s."""
    held = (demand("search", "s1", 4, admitted=30), demand("search", "s2", 2, queued=10, admitted=100))
    view.set_state([SEARCH, SPEECH], *held, demand("search", "s3", 4, queued=20))
    assert harness.cluster_sync.step()
    return harness


def quotas_by_project(harness: ControlPlaneHarness) -> dict[str, Any]:
    return {quota["project"]: quota for quota in harness.client.get("/v1/quotas").json()["items"]}


def test_quotas_show_the_usage_of_the_cluster(borrowed: ControlPlaneHarness) -> None:
    search, speech = quotas_by_project(borrowed)["search"], quotas_by_project(borrowed)["speech"]
    assert (search["nominal"], search["used"], search["borrowed_from"], search["pending"]) == (4, 6, {"speech": 2}, 1)
    assert (speech["lent_to"], speech["reclaimable"], speech["free"]) == ({"search": 2}, 2, 2)
    assert (search["managed_by"], speech["managed_by"]) == ("", "helm")
    [waiting] = search["waiting"]
    assert (waiting["job"], waiting["position"], waiting["reason"]["code"]) == ("wl-search/s3", 1, "waiting_for_quota")
    assert (search["queue_time_p50_seconds"], search["queue_time_p90_seconds"]) == (60.0, 84.0)
    assert (speech["queue_time_p50_seconds"], speech["queue_time_p90_seconds"]) == (None, None)


def test_pools_show_the_capacity_of_the_cluster(borrowed: ControlPlaneHarness) -> None:
    [pool] = borrowed.client.get("/v1/pools").json()["items"]
    pool_counts = {name: pool[name] for name in ("name", "capacity", "nodes", "ready_nodes", "nominal", "in_use")}
    assert pool_counts == {"name": "a100", "capacity": 8, "nodes": 2, "ready_nodes": 2, "nominal": 8, "in_use": 6}


def test_reason_from_the_cluster_takes_precedence(harness: ControlPlaneHarness, view: MemoryView) -> None:
    state = view.set_state([SEARCH], demand("search", "s1", 9))
    reason = Reason(code="no_matching_nodes", message="no node has the labels", action_by=ActionOwner.ADMIN)
    view.state = state.model_copy(update={"reasons": {"wl-search/s1": reason}})
    harness.cluster_sync.step()
    [waiting] = quotas_by_project(harness)["search"]["waiting"]
    assert (waiting["reason"]["code"], waiting["reason"]["action_by"]) == ("no_matching_nodes", "admin")


def test_member_sees_only_its_own_project(harness: ControlPlaneHarness, view: MemoryView) -> None:
    ada = Member(project=SEARCH.project.id, name="ada", role=Role.VIEWER)
    view.set_state([SEARCH.model_copy(update={"members": (ada,)}), SPEECH])
    harness.cluster_sync.step()
    team = harness.client_for_user("ada")
    [quota] = team.get("/v1/projects/search/quotas").json()["items"]
    assert (quota["project"], quota["nominal"]) == ("search", 4)
    assert team.get("/v1/projects/speech/quotas").status_code == 404
    assert team.get("/v1/quotas").status_code == 403
    assert team.put("/v1/projects/search/quotas/a100", json={"nominal": 8}).status_code == 403
    view.set_state([SEARCH, SPEECH])
    harness.cluster_sync.step()
    assert team.get("/v1/projects/search/quotas").status_code == 404


def test_foreign_queues_count_towards_the_pool_but_are_not_listed(
    harness: ControlPlaneHarness, view: MemoryView
) -> None:
    view.set_state([SEARCH], foreign=[Quota(project="queue:legacy", pool="a100", nominal=3)])
    harness.cluster_sync.step()
    assert list(quotas_by_project(harness)) == ["search"]
    assert harness.client.get("/v1/pools/a100").json()["nominal"] == 7


def test_a_job_is_simulated_against_the_cluster(borrowed: ControlPlaneHarness) -> None:
    borrowed.create_base_model()
    borrowed.create_dataset("speech", count=32)
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}

    def simulate(gpus: int) -> Any:
        body = {"spec": {**spec, "resources": {"pool": "a100", "gpus_per_worker": gpus}}}
        reply = borrowed.client.post("/v1/projects/speech/jobs:simulate", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    assert simulate(2)["verdict"] == "starts"
    assert (simulate(4)["verdict"], simulate(4)["position"]) == ("waits", 1)
    assert simulate(9)["verdict"] == "never"
    assert simulate(4)["world_size"] == 4, "a GPUPool counts GPUs, also if their type is not known"
    rejected = borrowed.client.post(
        "/v1/projects/speech/jobs", json={"spec": spec}, headers={"Idempotency-Key": "k" * 8}
    )
    assert (rejected.status_code, rejected.json()["code"]) == (409, "capability_missing")


def test_a_simulation_warns_of_a_job_that_fits_the_quota_and_no_set_of_nodes(
    harness: ControlPlaneHarness, view: MemoryView
) -> None:
    pieces = make_pool().model_copy(update={"free_gpus": (3, 1)})
    view.set_state([SEARCH], pools=[pieces])
    harness.cluster_sync.step()
    harness.create_base_model()
    harness.create_dataset("search")
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}

    def simulate(workers: int, gpus: int) -> Any:
        body = {"spec": {**spec, "resources": {"pool": "a100", "workers": workers, "gpus_per_worker": gpus}}}
        return harness.client.post("/v1/projects/search/jobs:simulate", json=body).json()

    assert (simulate(1, 3)["verdict"], simulate(1, 3)["warnings"]) == ("starts", [])
    answer = simulate(2, 2)
    assert answer["verdict"] == "starts", "as Kueue would decide"
    [warning] = answer["warnings"]
    assert (warning["code"], warning["context"]) == ("no_room_on_nodes", {"free_gpus": [3, 1]})
    assert warning["message"].startswith(
        "it fits the quota, but the nodes have room for 1 of 2 workers with 2 GPUs each: "
    )


def test_job_limit_applies_to_new_jobs_but_not_to_kueue_workloads(
    harness: ControlPlaneHarness, view: MemoryView
) -> None:
    limited = make_pool().model_copy(update={"max_gpus_per_job": 2})
    view.set_state(
        [SEARCH], demand("search", "big", 3, admitted=1), demand("search", "next", 3, queued=5), pools=[limited]
    )
    harness.cluster_sync.step()
    harness.create_base_model()
    harness.create_dataset("search")
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}
    body = {"spec": {**spec, "resources": {"pool": "a100", "workers": 3}}}
    answer = harness.client.post("/v1/projects/search/jobs:simulate", json=body).json()
    assert (answer["verdict"], answer["reason"]["code"]) == ("never", "exceeds_job_limit")
    [waiting] = quotas_by_project(harness)["search"]["waiting"]
    assert (waiting["job"], waiting["reason"]["code"]) == ("wl-search/next", "waiting_for_quota")


def test_objects_owned_by_the_cluster_are_read_only(borrowed: ControlPlaneHarness) -> None:
    responses = [
        borrowed.client.post("/v1/pools", json={"name": "h100", "capacity": 1}),
        borrowed.client.patch("/v1/pools/a100", json={"capacity": 1}, headers={"If-Match": '"1"'}),
        borrowed.client.post("/v1/projects", json={"name": "new"}),
        borrowed.client.delete("/v1/projects/search", headers={"If-Match": '"1"'}),
        borrowed.client.put("/v1/projects/search/members/ada", json={"role": "admin"}),
    ]
    assert [(reply.status_code, reply.json()["code"]) for reply in responses] == [(409, "capability_missing")] * 5
    assert all("kubectl" in reply.json()["hint"] for reply in responses)


def test_a_server_without_backends_neither_trains_nor_serves(borrowed: ControlPlaneHarness) -> None:
    server = borrowed.client.get("/v1").json()
    assert (server["mode"], server["capabilities"]) == ("cluster", ["local-models"])
    body = {"name": "api", "spec": {"traffic": [{"model": "classifier", "version": 1}]}}
    refused = borrowed.client.post("/v1/projects/search/endpoints", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "capability_missing")
    assert refused.json()["context"] == {"capability": "serving"}


# ---------------------------------------------------------------- changes


def put(harness: ControlPlaneHarness, project: str, nominal: int, **query: str) -> Any:
    return harness.client.put(f"/v1/projects/{project}/quotas/a100", json={"nominal": nominal}, params=query)


def test_quota_change_is_accepted_and_applied_by_the_worker(borrowed: ControlPlaneHarness) -> None:
    reply = put(borrowed, "speech", 6)
    assert (reply.status_code, reply.json()["state"]) == (202, "pending")
    assert quotas_by_project(borrowed)["speech"]["nominal"] == 4
    borrowed.cluster_sync.step()
    assert borrowed.client.get(reply.headers["Location"]).json()["state"] == "applied"
    assert quotas_by_project(borrowed)["speech"]["nominal"] == 6
    borrowed.cluster_sync.step()
    assert len(borrowed.resources.applied) == 1


def test_dry_run_lists_preempted_jobs_and_stores_nothing(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    assert view.state
    view.set_state([SEARCH, SPEECH], *view.state.snapshot.demands, demand("speech", "p1", 5, queued=30))
    borrowed.cluster_sync.step()
    preview = put(borrowed, "speech", 5, dry_run="true")
    assert (preview.status_code, preview.json()["state"], preview.json()["id"]) == (200, "checked", None)
    assert preview.json()["preempts"] == [{"job": "wl-search/s2", "project": "search"}]
    assert not borrowed.cluster_sync.step()
    assert quotas_by_project(borrowed)["speech"]["nominal"] == 4
    started = put(borrowed, "search", 8, dry_run="true").json()
    assert started["preempts"] == []


def test_quota_with_another_field_manager_is_a_conflict(borrowed: ControlPlaneHarness) -> None:
    borrowed.resources.other_managers["speech", "a100"] = "helm"
    reply = put(borrowed, "speech", 6)
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    assert "helm" in reply.json()["detail"]
    assert borrowed.client.get("/v1/cluster-sync").json()["pending_changes"] == 0


def test_dry_run_reports_the_other_field_manager(borrowed: ControlPlaneHarness) -> None:
    borrowed.resources.other_managers["speech", "a100"] = "helm"
    preview = put(borrowed, "speech", 6, dry_run="true").json()
    assert (preview["state"], preview["id"], "helm" in preview["problem"]) == ("refused", None, True)


def test_change_is_refused_if_another_manager_takes_the_quota_meanwhile(borrowed: ControlPlaneHarness) -> None:
    accepted = put(borrowed, "speech", 6)
    borrowed.resources.other_managers["speech", "a100"] = "kubectl"
    borrowed.cluster_sync.step()
    ended = borrowed.client.get(accepted.headers["Location"]).json()
    assert (ended["state"], "kubectl" in ended["problem"]) == ("refused", True)
    assert quotas_by_project(borrowed)["speech"]["nominal"] == 4


def test_changes_are_applied_in_order_after_an_outage_of_the_api_server(borrowed: ControlPlaneHarness) -> None:
    for nominal in (6, 2, 3):
        assert put(borrowed, "speech", nominal).status_code == 202
    borrowed.resources.unavailable = True
    assert put(borrowed, "speech", 1).status_code == 503
    borrowed.cluster_sync.step()
    assert borrowed.client.get("/v1/cluster-sync").json()["pending_changes"] == 3
    borrowed.resources.unavailable = False
    borrowed.cluster_sync.step()
    assert [change.spec and change.spec.nominal for change in borrowed.resources.applied] == [6, 2, 3]
    assert quotas_by_project(borrowed)["speech"]["nominal"] == 3


def test_quota_is_deleted(borrowed: ControlPlaneHarness) -> None:
    assert borrowed.client.delete("/v1/projects/speech/quotas/a100").status_code == 202
    borrowed.cluster_sync.step()
    assert list(quotas_by_project(borrowed)) == ["search"]
    assert borrowed.client.delete("/v1/projects/speech/quotas/a100").status_code == 404


def test_changes_and_their_results_are_audited(borrowed: ControlPlaneHarness) -> None:
    put(borrowed, "speech", 6)
    borrowed.cluster_sync.step()
    trail = borrowed.client.get("/v1/audit").json()["items"]
    state = [(entry["actor"], entry["action"]) for entry in trail if "quota" in entry["action"]]
    assert state == [("system", "quota-change.applied"), ("admin", "quota.put")]


# ---------------------------------------------------------------- the state sync


def test_unchanged_state_is_not_written(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    before = borrowed.client.get("/v1/cluster-sync").json()["synced_at"]
    borrowed.clock.advance(1)
    view.changed = True
    assert not borrowed.cluster_sync.step()
    assert borrowed.client.get("/v1/cluster-sync").json()["synced_at"] == before
    borrowed.clock.advance(6)
    assert not borrowed.cluster_sync.step()
    assert borrowed.client.get("/v1/cluster-sync").json()["synced_at"] > before


def test_invalid_project_keeps_its_data(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    """It is missing from the state but exists in the API server."""

    def exists(uid: str, name: str) -> bool:
        return (uid, name) == (SPEECH.project.id, "speech")

    borrowed.resources.exists = exists  # type: ignore[method-assign]  # the API server has the project, but it is invalid
    view.set_state([SEARCH])
    borrowed.cluster_sync.step()
    assert borrowed.client.get("/v1/projects/speech").status_code == 200
    assert not borrowed.cluster_sync.step()


def test_recreated_project_does_not_inherit_data(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    borrowed.create_dataset("speech")
    recreated: ProjectState = make_project("speech", 99, make_quota(1))
    view.set_state([SEARCH, recreated])
    borrowed.cluster_sync.step()
    assert borrowed.client.get("/v1/projects/speech").json()["uid"] == recreated.project.id
    assert borrowed.client.get("/v1/projects/speech/datasets").json()["items"] == []


def test_unavailable_api_server_deletes_nothing(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    view.state, view.changed = None, True
    with pytest.raises(UnavailableError):
        borrowed.cluster_sync.step()
    assert list(quotas_by_project(borrowed)) == ["search", "speech"]


def test_recreated_pool_replaces_the_old_one(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    view.set_state([SEARCH, SPEECH], pools=[make_pool(capacity=2, number=7)])
    borrowed.cluster_sync.step()
    assert borrowed.client.get("/v1/pools/a100").json()["capacity"] == 2


def test_standby_takes_over_when_the_lease_expires(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    first, second = borrowed.cluster_sync, borrowed.add_cluster_sync("worker-2")
    assert not second.step()
    borrowed.clock.advance(14)
    assert not second.step()
    first.step()
    borrowed.clock.advance(14)
    assert not second.step(), "the first has renewed the lease"
    borrowed.clock.advance(15)
    view.set_state([SEARCH])
    assert second.step()
    assert list(quotas_by_project(borrowed)) == ["search"]


def test_former_leader_writes_nothing(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    first, second = borrowed.cluster_sync, borrowed.add_cluster_sync("worker-2")
    second.step()
    borrowed.clock.advance(16)
    second.step()
    with pytest.raises(NotLeaderError):
        first.elector.ensure_leader()
    view.set_state([])
    assert not first.step()
    assert list(quotas_by_project(borrowed)) == ["search", "speech"]
    second.elector.ensure_leader()


def test_released_lease_is_acquired_immediately(borrowed: ControlPlaneHarness, view: MemoryView) -> None:
    second = borrowed.add_cluster_sync("worker-2")
    borrowed.cluster_sync.release()
    view.set_state([SEARCH])
    assert second.step()
    assert borrowed.client.get("/v1/cluster-sync").json()["holder"] == "worker-2"


def test_sync_age_grows_while_the_cluster_is_unavailable(harness: ControlPlaneHarness, view: MemoryView) -> None:
    with pytest.raises(UnavailableError):
        harness.cluster_sync.step()
    harness.clock.advance(40)
    assert harness.cluster_sync.seconds_since_sync == 40, "nothing was synced yet"
    view.set_state([SEARCH])
    harness.cluster_sync.step()
    assert harness.cluster_sync.seconds_since_sync == 0
    assert harness.add_cluster_sync("worker-2").seconds_since_sync == 0, "only the leader reports an age"
