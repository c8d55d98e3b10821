"""A control plane that works for a cluster: the mirror, the ledger from it, and changes on their way back."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.cluster import BORN, MemoryView, a_pool, a_project, a_quota
from tests.fakes.house import House

from windlass.domain.errors import UnavailableError
from windlass.domain.jobs import Owner, Reason
from windlass.domain.mirror import ProjectState
from windlass.domain.projects import Member, Role
from windlass.domain.quota import Claim, Quota
from windlass.services.mirroring import LeaseLostError

SEARCH = a_project("search", 11, a_quota(4))
SPEECH = a_project("speech", 12, a_quota(4, managed_by="helm"))


def claim(project: str, job: str, gpus: int, *, queued: int = 0, admitted: int | None = None) -> Claim:
    """A claim, with seconds since the beginning."""
    return Claim(
        job=f"wl-{project}/{job}",
        project=project,
        pool="a100",
        gpus=gpus,
        queued_at=BORN + timedelta(seconds=queued),
        admitted_at=None if admitted is None else BORN + timedelta(seconds=admitted),
        tiebreak=f"uid-{job}",
    )


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def house(tmp_path: Path, view: MemoryView) -> Iterator[House]:
    built = House(tmp_path, cluster=view)
    with built.client:
        yield built
    built.close()


@pytest.fixture
def borrowed(house: House, view: MemoryView) -> House:
    """Search uses 6 of 8 GPUs, 2 of them lent by speech; of its jobs one waited for 30 seconds, one for 90."""
    held = (claim("search", "s1", 4, admitted=30), claim("search", "s2", 2, queued=10, admitted=100))
    view.show([SEARCH, SPEECH], *held, claim("search", "s3", 4, queued=20))
    assert house.mirroring.step()
    return house


def ledger(house: House) -> dict[str, Any]:
    return {line["project"]: line for line in house.client.get("/v1/quotas").json()["items"]}


def test_the_ledger_is_that_of_the_cluster(borrowed: House) -> None:
    search, speech = ledger(borrowed)["search"], ledger(borrowed)["speech"]
    assert (search["nominal"], search["used"], search["borrowed_from"], search["pending"]) == (4, 6, {"speech": 2}, 1)
    assert (speech["lent_to"], speech["reclaimable"], speech["free"]) == ({"search": 2}, 2, 2)
    assert (search["managed_by"], speech["managed_by"]) == ("", "helm")
    [waiting] = search["waiting"]
    assert (waiting["job"], waiting["position"], waiting["reason"]["code"]) == ("wl-search/s3", 1, "waiting_for_quota")
    assert (search["wait_p50_seconds"], search["wait_p90_seconds"]) == (60.0, 84.0)
    assert (speech["wait_p50_seconds"], speech["wait_p90_seconds"]) == (None, None)


def test_pools_show_what_the_cluster_counts(borrowed: House) -> None:
    [pool] = borrowed.client.get("/v1/pools").json()["items"]
    shown = {name: pool[name] for name in ("name", "capacity", "nodes", "ready_nodes", "nominal", "in_use")}
    assert shown == {"name": "a100", "capacity": 8, "nodes": 2, "ready_nodes": 2, "nominal": 8, "in_use": 6}


def test_the_reason_of_the_cluster_is_shown_before_our_own(house: House, view: MemoryView) -> None:
    told = view.show([SEARCH], claim("search", "s1", 9))
    why = Reason(code="no_matching_nodes", message="no node has the labels", owner=Owner.ADMIN)
    view.mirror = told.model_copy(update={"reasons": {"wl-search/s1": why}})
    house.mirroring.step()
    [waiting] = ledger(house)["search"]["waiting"]
    assert (waiting["reason"]["code"], waiting["reason"]["owner"]) == ("no_matching_nodes", "admin")


def test_a_member_sees_its_own_project_and_no_other(house: House, view: MemoryView) -> None:
    ada = Member(project=SEARCH.project.id, user="ada", role=Role.VIEWER)
    view.show([SEARCH.model_copy(update={"members": (ada,)}), SPEECH])
    house.mirroring.step()
    team = house.client_of("ada")
    [line] = team.get("/v1/projects/search/quotas").json()["items"]
    assert (line["project"], line["nominal"]) == ("search", 4)
    assert team.get("/v1/projects/speech/quotas").status_code == 404
    assert team.get("/v1/quotas").status_code == 403
    assert team.put("/v1/projects/search/quotas/a100", json={"nominal": 8}).status_code == 403
    view.show([SEARCH, SPEECH])
    house.mirroring.step()
    assert team.get("/v1/projects/search/quotas").status_code == 404


def test_queues_of_others_count_and_are_no_line(house: House, view: MemoryView) -> None:
    view.show([SEARCH], foreign=[Quota(project="queue:legacy", pool="a100", nominal=3)])
    house.mirroring.step()
    assert list(ledger(house)) == ["search"]
    assert house.client.get("/v1/pools/a100").json()["nominal"] == 7


def test_a_job_is_simulated_against_the_cluster(borrowed: House) -> None:
    borrowed.base_model()
    borrowed.dataset("speech")
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}

    def ask(gpus: int) -> Any:
        body = {"spec": {**spec, "resources": {"pool": "a100", "workers": gpus}}}
        reply = borrowed.client.post("/v1/projects/speech/jobs:simulate", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    assert ask(2)["verdict"] == "starts"
    assert (ask(4)["verdict"], ask(4)["position"]) == ("waits", 1)
    assert ask(9)["verdict"] == "never"
    refused = borrowed.client.post(
        "/v1/projects/speech/jobs", json={"spec": spec}, headers={"Idempotency-Key": "k" * 8}
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_a_limit_for_one_job_holds_for_new_ones_and_not_for_what_kueue_has(house: House, view: MemoryView) -> None:
    limited = a_pool().model_copy(update={"max_gpus_per_job": 2})
    view.show([SEARCH], claim("search", "big", 3, admitted=1), claim("search", "next", 3, queued=5), pools=[limited])
    house.mirroring.step()
    house.base_model()
    house.dataset("search")
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}
    body = {"spec": {**spec, "resources": {"pool": "a100", "workers": 3}}}
    answer = house.client.post("/v1/projects/search/jobs:simulate", json=body).json()
    assert (answer["verdict"], answer["reason"]["code"]) == ("never", "exceeds_job_limit")
    [waiting] = ledger(house)["search"]["waiting"]
    assert (waiting["job"], waiting["reason"]["code"]) == ("wl-search/next", "waiting_for_quota")


def test_what_the_cluster_owns_is_not_written_here(borrowed: House) -> None:
    asked = [
        borrowed.client.post("/v1/pools", json={"name": "h100", "capacity": 1}),
        borrowed.client.patch("/v1/pools/a100", json={"capacity": 1}, headers={"If-Match": '"1"'}),
        borrowed.client.post("/v1/projects", json={"name": "new"}),
        borrowed.client.delete("/v1/projects/search", headers={"If-Match": '"1"'}),
        borrowed.client.put("/v1/projects/search/members/ada", json={"role": "owner"}),
    ]
    assert [reply.status_code for reply in asked] == [409] * 5
    assert all("kubectl" in reply.json()["hint"] for reply in asked)


# ---------------------------------------------------------------- changes


def put(house: House, project: str, nominal: int, **query: str) -> Any:
    return house.client.put(f"/v1/projects/{project}/quotas/a100", json={"nominal": nominal}, params=query)


def test_a_change_is_accepted_and_then_carried_out_by_the_worker(borrowed: House) -> None:
    reply = put(borrowed, "speech", 6)
    assert (reply.status_code, reply.json()["state"]) == (202, "pending")
    assert ledger(borrowed)["speech"]["nominal"] == 4
    borrowed.mirroring.step()
    assert borrowed.client.get(reply.headers["Location"]).json()["state"] == "applied"
    assert ledger(borrowed)["speech"]["nominal"] == 6
    borrowed.mirroring.step()
    assert len(borrowed.resources.applied) == 1


def test_a_trial_names_the_jobs_that_would_lose_their_gpus_and_keeps_nothing(borrowed: House, view: MemoryView) -> None:
    assert view.mirror
    view.show([SEARCH, SPEECH], *view.mirror.snapshot.claims, claim("speech", "p1", 5, queued=30))
    borrowed.mirroring.step()
    tried = put(borrowed, "speech", 5, dry_run="true")
    assert (tried.status_code, tried.json()["state"], tried.json()["id"]) == (200, "checked", None)
    assert tried.json()["preempts"] == [{"job": "wl-search/s2", "project": "search"}]
    assert not borrowed.mirroring.step()
    assert ledger(borrowed)["speech"]["nominal"] == 4
    started = put(borrowed, "search", 8, dry_run="true").json()
    assert started["preempts"] == []


def test_who_else_manages_a_quota_is_named_and_not_fought(borrowed: House) -> None:
    borrowed.resources.taken["speech", "a100"] = "helm"
    reply = put(borrowed, "speech", 6)
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    assert "helm" in reply.json()["detail"]
    assert borrowed.client.get("/v1/mirror").json()["pending_changes"] == 0


def test_a_trial_of_what_others_manage_says_what_it_would_do_and_who_they_are(borrowed: House) -> None:
    borrowed.resources.taken["speech", "a100"] = "helm"
    tried = put(borrowed, "speech", 6, dry_run="true").json()
    assert (tried["state"], tried["id"], "helm" in tried["problem"]) == ("refused", None, True)


def test_who_takes_a_quota_between_reply_and_writing_keeps_it(borrowed: House) -> None:
    accepted = put(borrowed, "speech", 6)
    borrowed.resources.taken["speech", "a100"] = "kubectl"
    borrowed.mirroring.step()
    ended = borrowed.client.get(accepted.headers["Location"]).json()
    assert (ended["state"], "kubectl" in ended["problem"]) == ("refused", True)
    assert ledger(borrowed)["speech"]["nominal"] == 4


def test_changes_wait_while_the_cluster_is_away_and_keep_their_order(borrowed: House) -> None:
    for nominal in (6, 2, 3):
        assert put(borrowed, "speech", nominal).status_code == 202
    borrowed.resources.down = True
    assert put(borrowed, "speech", 1).status_code == 503
    borrowed.mirroring.step()
    assert borrowed.client.get("/v1/mirror").json()["pending_changes"] == 3
    borrowed.resources.down = False
    borrowed.mirroring.step()
    assert [one.share and one.share.nominal for one in borrowed.resources.applied] == [6, 2, 3]
    assert ledger(borrowed)["speech"]["nominal"] == 3


def test_a_quota_is_taken_away(borrowed: House) -> None:
    assert borrowed.client.delete("/v1/projects/speech/quotas/a100").status_code == 202
    borrowed.mirroring.step()
    assert list(ledger(borrowed)) == ["search"]
    assert borrowed.client.delete("/v1/projects/speech/quotas/a100").status_code == 404


def test_changes_are_in_the_audit_trail_with_what_became_of_them(borrowed: House) -> None:
    put(borrowed, "speech", 6)
    borrowed.mirroring.step()
    trail = borrowed.client.get("/v1/audit").json()["items"]
    told = [(entry["actor"], entry["action"]) for entry in trail if "quota" in entry["action"]]
    assert told == [("system", "quota-change.applied"), ("admin", "quota.put")]


# ---------------------------------------------------------------- the mirror itself


def test_nothing_is_written_while_nothing_changes(borrowed: House, view: MemoryView) -> None:
    before = borrowed.client.get("/v1/mirror").json()["read_at"]
    borrowed.clock.forward(1)
    view.news = True
    assert not borrowed.mirroring.step()
    assert borrowed.client.get("/v1/mirror").json()["read_at"] == before
    borrowed.clock.forward(6)
    assert not borrowed.mirroring.step()
    assert borrowed.client.get("/v1/mirror").json()["read_at"] > before


def test_a_project_that_cannot_be_read_keeps_everything(borrowed: House, view: MemoryView) -> None:
    """It is not told of, and yet it exists."""

    def there(uid: str, name: str) -> bool:
        return (uid, name) == (SPEECH.project.id, "speech")

    borrowed.resources.exists = there  # type: ignore[method-assign]  # a project that the API server has, unreadable
    view.show([SEARCH])
    borrowed.mirroring.step()
    assert borrowed.client.get("/v1/projects/speech").status_code == 200
    assert not borrowed.mirroring.step()


def test_a_project_that_is_gone_takes_its_things_along_and_a_new_one_has_none(
    borrowed: House, view: MemoryView
) -> None:
    borrowed.dataset("speech")
    again: ProjectState = a_project("speech", 99, a_quota(1))
    view.show([SEARCH, again])
    borrowed.mirroring.step()
    assert borrowed.client.get("/v1/projects/speech").json()["uid"] == again.project.id
    assert borrowed.client.get("/v1/projects/speech/datasets").json()["items"] == []


def test_an_api_server_that_is_away_takes_nothing_away(borrowed: House, view: MemoryView) -> None:
    view.mirror, view.news = None, True
    with pytest.raises(UnavailableError):
        borrowed.mirroring.step()
    assert list(ledger(borrowed)) == ["search", "speech"]


def test_a_pool_made_again_under_its_name_is_another(borrowed: House, view: MemoryView) -> None:
    view.show([SEARCH, SPEECH], pools=[a_pool(capacity=2, number=7)])
    borrowed.mirroring.step()
    assert borrowed.client.get("/v1/pools/a100").json()["capacity"] == 2


def test_a_second_worker_waits_and_takes_over_when_the_first_is_silent(borrowed: House, view: MemoryView) -> None:
    first, second = borrowed.mirroring, borrowed.another_mirror("worker-2")
    assert not second.step()
    borrowed.clock.forward(14)
    assert not second.step()
    first.step()
    borrowed.clock.forward(14)
    assert not second.step(), "the first has renewed the lease"
    borrowed.clock.forward(15)
    view.show([SEARCH])
    assert second.step()
    assert list(ledger(borrowed)) == ["search"]


def test_the_one_that_was_replaced_writes_nothing(borrowed: House, view: MemoryView) -> None:
    first, second = borrowed.mirroring, borrowed.another_mirror("worker-2")
    second.step()
    borrowed.clock.forward(16)
    second.step()
    with pytest.raises(LeaseLostError):
        first.guard()
    view.show([])
    assert not first.step()
    assert list(ledger(borrowed)) == ["search", "speech"]
    second.guard()


def test_who_stops_lets_the_next_begin_at_once(borrowed: House, view: MemoryView) -> None:
    second = borrowed.another_mirror("worker-2")
    borrowed.mirroring.release()
    view.show([SEARCH])
    assert second.step()
    assert borrowed.client.get("/v1/mirror").json()["holder"] == "worker-2"


def test_the_age_of_the_mirror_grows_while_the_cluster_cannot_be_read(house: House, view: MemoryView) -> None:
    with pytest.raises(UnavailableError):
        house.mirroring.step()
    house.clock.forward(40)
    assert house.mirroring.age == 40, "nothing was ever read"
    view.show([SEARCH])
    house.mirroring.step()
    assert house.mirroring.age == 0
    assert house.another_mirror("worker-2").age == 0, "who does not mirror has no age to tell"
