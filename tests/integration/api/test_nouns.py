"""The nouns of the platform over HTTP: create, list by cursor, change under a version, delete."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.house import House

from windlass.domain.records import AuditEntry
from windlass.settings import LimitSettings


def audit(house: House) -> list[AuditEntry]:
    with house.database.read() as work:
        return work.audit.all()


def test_a_project_is_changed_only_from_the_version_that_was_read(house: House) -> None:
    made = house.client.post("/v1/projects", json={"name": "lab", "cohort": "team"})
    assert (made.status_code, made.headers["etag"], made.headers["location"]) == (201, '"1"', "/v1/projects/lab")
    url = "/v1/projects/lab"
    assert house.client.patch(url, json={"display_name": "Lab"}).status_code == 428
    assert house.client.patch(url, json={"display_name": "Lab"}, headers={"If-Match": '"7"'}).status_code == 412
    changed = house.client.patch(url, json={"display_name": "Lab"}, headers={"If-Match": '"1"'})
    assert (changed.json()["display_name"], changed.json()["cohort"], changed.headers["etag"]) == ("Lab", "team", '"2"')
    assert made.json()["priority_ceiling"] == 0
    left = house.client.patch(url, json={"cohort": None}, headers={"If-Match": '"2"'})
    assert left.json()["cohort"] is None
    assert house.client.delete(url, headers={"If-Match": '"3"'}).status_code == 204
    assert house.client.get(url).status_code == 404


def test_a_name_that_is_taken_or_malformed_is_refused(house: House) -> None:
    assert house.client.post("/v1/projects", json={"name": "lab"}).status_code == 201
    taken = house.client.post("/v1/projects", json={"name": "lab"})
    assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
    for bad in ("", "Lab", "-lab", "a" * 41, "../x", "a b", "läb", "lab\n"):
        reply = house.client.post("/v1/projects", json={"name": bad})
        assert reply.status_code == 422, bad
        assert reply.json()["errors"][0]["pointer"] == "/name"


def test_an_unknown_field_is_named(house: House) -> None:
    reply = house.client.post("/v1/projects", json={"name": "lab", "colour": "red"})
    assert reply.json()["errors"] == [{"pointer": "/colour", "detail": "is not a known field"}]


def test_lists_page_by_cursor_without_gap_or_repeat(house: House) -> None:
    names = [f"p{number}" for number in range(7)]
    for name in names:
        house.client.post("/v1/projects", json={"name": name})
    found: list[str] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor:
        query: dict[str, Any] = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = house.client.get("/v1/projects", params=query).json()
        found += [item["name"] for item in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert sorted(found) == names
    assert pages == 3


@pytest.mark.parametrize("query", ["cursor=%00", "cursor=!!", "limit=0", "limit=1000000000", "limit=x"])
def test_a_bad_page_request_is_refused(house: House, query: str) -> None:
    assert house.client.get(f"/v1/projects?{query}").status_code in (400, 422)


def test_quotas_are_checked_against_pool_and_cohort(house: House) -> None:
    house.project("solo", gpus=2)
    house.project("one", gpus=2, cohort="lab")
    missing = house.client.put("/v1/projects/one/quotas/none", json={"nominal": 1})
    assert missing.status_code == 404
    lending = house.client.put("/v1/projects/one/quotas/local", json={"nominal": 1, "lending_limit": 5})
    assert (lending.status_code, lending.json()["errors"][0]["pointer"]) == (422, "/lending_limit")
    limit = house.client.put("/v1/projects/solo/quotas/local", json={"nominal": 1, "borrowing_limit": 1})
    assert limit.status_code == 422
    good = house.client.put("/v1/projects/one/quotas/local", json={"nominal": 2, "borrowing_limit": 1})
    assert (good.json()["nominal"], good.json()["borrowing_limit"]) == (2, 1)


def test_the_last_owner_stays(house: House) -> None:
    house.project("lab")
    assert house.client.delete("/v1/projects/lab/members/admin").status_code == 409
    assert house.client.put("/v1/projects/lab/members/admin", json={"role": "viewer"}).status_code == 409
    house.client.put("/v1/projects/lab/members/bob", json={"role": "owner"})
    assert house.client.delete("/v1/projects/lab/members/admin").status_code == 204


def test_fifty_requests_with_one_key_make_one_job(ready: House) -> None:
    def submit(_: int) -> str:
        return str(ready.submit("ours", key="same")["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(submit, range(50)))
    assert len(ids) == 1
    with ready.database.read() as work:
        assert len(work.everywhere().jobs.all()) == 1
        assert len([e for e in work.audit.all() if e.action == "job.create"]) == 1
    with ready.database.write() as work:
        assert [intent.kind for intent in work.outbox.claim(10, ready.worker.settings.lease)] == ["job.submit"]


def test_each_accepted_mutation_has_one_audit_row_and_a_refused_one_none(house: House) -> None:
    before = len(audit(house))
    house.client.post("/v1/projects", json={"name": "lab"})
    house.client.post("/v1/projects", json={"name": "lab"})
    house.client.post("/v1/projects", json={"name": "Not A Name"})
    house.client.put("/v1/projects/lab/members/bob", json={"role": "editor"}, headers={"X-Request-ID": "mine"})
    rows = audit(house)[before:]
    assert [(row.action, row.actor) for row in rows] == [("project.create", "admin"), ("member.put", "admin")]
    assert rows[1].request_id == "mine"


def test_a_job_needs_an_idempotency_key(ready: House) -> None:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    reply = ready.client.post("/v1/projects/ours/jobs", json={"spec": spec})
    assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (400, "/header/Idempotency-Key")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"base_model": "nothing"}, "/spec/base_model"),
        ({"dataset": "nothing"}, "/spec/dataset"),
        ({"dataset": "reviews@9"}, "/spec/dataset"),
        ({"method": {"type": "magic"}}, "/spec/method"),
        ({"training": {"learning_rate": 0}}, "/spec/training/learning_rate"),
        ({"training": {"learning_rate": -1}}, "/spec/training/learning_rate"),
        ({"training": {"batch_size": 3, "gradient_accumulation": 2}}, "/spec/training"),
        ({"evaluation": {"gates": ["very good"]}}, "/spec/evaluation/gates/0"),
        ({"task": "chat"}, "/spec/task"),
        ({"max_duration_seconds": 1}, "/spec/max_duration_seconds"),
        ({"entrypoint": "rm -rf /"}, "/spec/entrypoint"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_by_field(ready: House, change: dict[str, Any], pointer: str) -> None:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m", **change}
    reply = ready.client.post("/v1/projects/ours/jobs", json={"spec": spec}, headers={"Idempotency-Key": "k"})
    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["pointer"] == pointer
    assert ready.client.get("/v1/projects/ours/jobs").json()["items"] == []


def test_more_gpus_than_any_pool_has_is_refused_with_the_smallest_change(ready: House) -> None:
    spec = {
        "task": "text-classification",
        "base_model": "tiny",
        "dataset": "reviews",
        "model": "m",
        "resources": {"gpus_per_worker": 8},
    }
    reply = ready.client.post("/v1/projects/ours/jobs", json={"spec": spec}, headers={"Idempotency-Key": "k"})
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (422, "quota_exceeded")
    assert problem["facts"]["changes"][0] == {"kind": "reduce_gpus", "by": 7, "to": 1}
    simulated = ready.client.post("/v1/projects/ours/jobs:simulate", json={"spec": spec}).json()
    assert simulated["verdict"] == "never"
    assert "to 1" in simulated["smallest_change"]


def test_a_second_job_waits_and_says_for_what(ready: House) -> None:
    ready.submit("ours", key="1")
    second = ready.submit("ours", key="2")
    ready.turn(2)
    shown = ready.client.get(f"/v1/projects/ours/jobs/{second['id']}").json()
    assert (shown["state"], shown["reason"]["code"]) == ("queued", "waiting_for_quota")
    assert shown["reason"]["facts"]["position"] == 1


def test_usage_counts_the_seconds_of_admitted_gpus(ready: House) -> None:
    pool = ready.client.get("/v1/pools/local")
    price = {"price_per_gpu_hour": 36.0}
    ready.client.patch("/v1/pools/local", json=price, headers={"If-Match": pool.headers["etag"]})
    job = ready.submit("ours", key="1")
    ready.turn(2)
    ready.clock.forward(100)
    line = ready.client.get("/v1/projects/ours/usage").json()["items"][0]
    assert (line["job"], line["gpu_seconds"], line["cost"]) == (job["id"], 100.0, 1.0)


def test_a_retried_job_is_a_new_one_with_the_same_spec(ready: House) -> None:
    job = ready.submit("ours", key="1")
    url = f"/v1/projects/ours/jobs/{job['id']}"
    live = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"})
    assert live.status_code == 409
    ready.client.post(f"{url}:cancel")
    again = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"}).json()
    assert again["retry_of"] == job["id"]
    assert again["dataset"] == "reviews@1"
    assert ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"}).json()["id"] == again["id"]


def test_a_retry_trains_on_the_same_rows_or_not_at_all(ready: House) -> None:
    job = ready.submit("ours", key="1")
    url = f"/v1/projects/ours/jobs/{job['id']}"
    ready.client.post(f"{url}:cancel")
    assert ready.client.delete("/v1/projects/ours/datasets/reviews", headers={"If-Match": '"2"'}).status_code == 204
    gone = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"})
    assert (gone.status_code, gone.json()["errors"][0]["pointer"]) == (422, "/spec/dataset")
    ready.dataset("ours")
    other = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"})
    assert (other.status_code, other.json()["errors"][0]["pointer"]) == (422, "/spec/dataset")
    assert f"is not what job {job['id']} trained on" in other.json()["detail"]


def test_a_retry_starts_from_the_same_base_model_or_not_at_all(ready: House) -> None:
    job = ready.submit("ours", key="1")
    url = f"/v1/projects/ours/jobs/{job['id']}"
    ready.client.post(f"{url}:cancel")
    with ready.database.write() as work:
        work.base_models.delete(name="tiny")
    ready.base_model()
    other = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"})
    assert (other.status_code, other.json()["errors"][0]["pointer"]) == (422, "/spec/base_model")
    assert "that base model was deleted, and made again" in other.json()["detail"]


def test_a_project_may_have_so_many_unfinished_jobs(tmp_path: Path) -> None:
    house = House(tmp_path, limits=LimitSettings(unfinished_jobs=2))
    house.project("ours")
    house.base_model()
    house.dataset("ours")
    first = house.submit("ours", key="1")
    house.submit("ours", key="2")
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    asked = {"json": {"spec": spec}, "headers": {"Idempotency-Key": "3"}}
    refused = house.client.post("/v1/projects/ours/jobs", **asked)  # type: ignore[arg-type]  # the values are of two kinds
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached")
    assert refused.json()["facts"] == {"unfinished": 2, "limit": 2}
    assert house.submit("ours", key="1")["id"] == first["id"]
    house.client.post(f"/v1/projects/ours/jobs/{first['id']}:cancel")
    assert house.client.post("/v1/projects/ours/jobs", **asked).status_code == 202  # type: ignore[arg-type]  # as above
    house.close()


def test_a_stream_tells_all_and_goes_on_where_the_reader_stopped(ready: House) -> None:
    job = ready.submit("ours", key="1")
    ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel")
    url = f"/v1/projects/ours/jobs/{job['id']}/events"
    whole = ready.client.get(url, headers={"Accept": "text/event-stream"}).text
    assert whole.count("event: event\n") == 3
    assert whole.rstrip().split("\n\n")[-1].startswith("event: end")
    rest = ready.client.get(url, headers={"Accept": "text/event-stream", "Last-Event-ID": "2"}).text
    assert rest.count("event: event\n") == 1
    assert "id: 3\n" in rest


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize("number", ["99999999999999999999", "-1", "x", "1_0", "٣"])
def test_a_number_that_no_list_has_given_out_is_refused_by_field(ready: House, number: str) -> None:
    url = f"/v1/projects/ours/jobs/{ready.submit('ours', key='1')['id']}"
    for tail in ("events", "checkpoints"):
        reply = ready.client.get(f"{url}/{tail}", params={"cursor": cursor(number)})
        assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (400, "/query/cursor")
    stream = {"Accept": "text/event-stream", "Last-Event-ID": number.encode()}
    for tail in ("events", "logs"):
        reply = ready.client.get(f"{url}/{tail}", headers=stream)  # type: ignore[arg-type]  # as raw as a client may
        assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (400, "/header/Last-Event-ID")


@pytest.mark.parametrize("offset", ["3", "-1", "999999999", "9" * 30, "1_0", ""])
def test_a_cursor_into_the_middle_of_a_row_is_refused(ready: House, offset: str) -> None:
    url = "/v1/projects/ours/datasets/reviews/versions/1/rows"
    reply = ready.client.get(url, params={"cursor": cursor(offset)})
    assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (400, "/query/cursor")
    first = ready.client.get(url, params={"limit": 3}).json()
    rest = ready.client.get(url, params={"cursor": first["next_cursor"]}).json()
    assert (len(first["items"]), len(rest["items"])) == (3, 1)


def test_a_version_of_five_thousand_digits_is_not_the_current_one(ready: House) -> None:
    reply = ready.client.patch("/v1/projects/ours", json={"display_name": "x"}, headers={"If-Match": "1" * 5000})
    assert reply.status_code == 412


def test_the_metrics_tell_how_long_the_oldest_intent_waits(ready: House) -> None:
    ready.turn()
    assert "windlass_outbox_oldest_seconds 0.0" in ready.client.get("/metrics").text
    ready.submit("ours", key="1")
    ready.clock.forward(75)
    assert "windlass_outbox_oldest_seconds 75.0" in ready.client.get("/metrics").text


def test_prometheus_metrics_are_for_admins_and_carry_no_ids(ready: House) -> None:
    ready.submit("ours", key="1")
    text = ready.client.get("/metrics").text
    assert 'windlass_http_requests_total{operation="createJob",status="202"}' in text
    assert "job_0" not in text
    assert ready.client_of("eve").get("/metrics").status_code == 403


def test_the_ledger_says_who_waits_and_how_long_jobs_waited(ready: House) -> None:
    first, second = ready.submit("ours", key="1"), ready.submit("ours", key="2")
    ready.intents()  # they are queued
    ready.clock.forward(30)
    ready.turn(2)
    [line] = ready.client.get("/v1/projects/ours/quotas").json()["items"]
    assert (line["used"], line["wait_p50_seconds"], line["wait_p90_seconds"]) == (1, 30.0, 30.0)
    [waiting] = line["waiting"]
    assert (waiting["job"], waiting["position"], waiting["gpus"]) == (second["id"], 1, 1)
    assert first["id"] not in {one["job"] for one in line["waiting"]}
    ready.clock.forward(8 * 24 * 3600)
    ready.retention.sweep()
    [line] = ready.client.get("/v1/projects/ours/quotas").json()["items"]
    assert line["wait_p50_seconds"] is None


def test_a_change_of_a_quota_can_be_tried_first_and_is_applied_at_once(ready: House) -> None:
    """Where the quotas are rows: two jobs, one of which waits."""
    for key in ("1", "2"):
        ready.submit("ours", key=key)
    ready.turn(2)
    path = "/v1/projects/ours/quotas/local"
    with ready.database.write() as work:
        work.pools.save(work.pools.get(name="local").model_copy(update={"capacity": 2}))
    tried = ready.client.put(path, json={"nominal": 2}, params={"dry_run": "true"}).json()
    assert (tried["state"], [one["project"] for one in tried["starts"]]) == ("checked", ["ours"])
    assert ready.client.get("/v1/projects/ours/quotas").json()["items"][0]["nominal"] == 1
    done = ready.client.put(path, json={"nominal": 2})
    assert (done.status_code, done.json()["state"]) == (200, "applied")
    kept = ready.client.get(f"/v1/projects/ours/quota-changes/{done.json()['id']}").json()
    assert (kept["state"], kept["nominal"]) == ("applied", 2)
    assert ready.client.delete(path).json()["nominal"] is None
    assert ready.client.get("/v1/projects/ours/quotas").json()["items"] == []
