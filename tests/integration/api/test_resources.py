"""CRUD of API resources: create, paginated list, versioned update, delete."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.audit import AuditEntry
from windlass.domain.capabilities import Capability
from windlass.settings import LimitSettings


def audit(harness: ControlPlaneHarness) -> list[AuditEntry]:
    with harness.database.read() as uow:
        return uow.audit.all()


def test_an_embedded_server_has_every_capability_but_gpus_of_endpoints(harness: ControlPlaneHarness) -> None:
    server = harness.client.get("/v1").json()
    assert (server["mode"], server["capabilities"]) == ("embedded", sorted(set(Capability) - {Capability.GPU_SERVING}))


def test_project_update_requires_the_current_version(harness: ControlPlaneHarness) -> None:
    created = harness.client.post("/v1/projects", json={"name": "lab", "cohort": "team"})
    assert (created.status_code, created.headers["etag"], created.headers["location"]) == (
        201,
        '"1"',
        "/v1/projects/lab",
    )
    url = "/v1/projects/lab"
    assert harness.client.patch(url, json={"display_name": "Lab"}).status_code == 428
    assert harness.client.patch(url, json={"display_name": "Lab"}, headers={"If-Match": '"7"'}).status_code == 412
    changed = harness.client.patch(url, json={"display_name": "Lab"}, headers={"If-Match": '"1"'})
    assert (changed.json()["display_name"], changed.json()["cohort"], changed.headers["etag"]) == ("Lab", "team", '"2"')
    assert created.json()["priority_ceiling"] == 0
    without_cohort = harness.client.patch(url, json={"cohort": None}, headers={"If-Match": '"2"'})
    assert without_cohort.json()["cohort"] is None
    assert harness.client.delete(url, headers={"If-Match": '"3"'}).status_code == 200
    assert harness.client.get(url).status_code == 404


def test_duplicate_or_malformed_name_is_rejected(harness: ControlPlaneHarness) -> None:
    assert harness.client.post("/v1/projects", json={"name": "lab"}).status_code == 201
    taken = harness.client.post("/v1/projects", json={"name": "lab"})
    assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
    for bad in ("", "Lab", "-lab", "a" * 41, "../x", "a b", "läb", "lab\n"):
        reply = harness.client.post("/v1/projects", json={"name": bad})
        assert reply.status_code == 422, bad
        assert reply.json()["errors"][0]["pointer"] == "/name"


def test_error_names_an_unknown_field(harness: ControlPlaneHarness) -> None:
    reply = harness.client.post("/v1/projects", json={"name": "lab", "colour": "red"})
    assert reply.json()["errors"] == [{"pointer": "/colour", "detail": "is not a known field"}]


def test_pagination_has_no_gaps_or_duplicates(harness: ControlPlaneHarness) -> None:
    names = [f"p{number}" for number in range(7)]
    for name in names:
        harness.client.post("/v1/projects", json={"name": name})
    listed: list[str] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor:
        query: dict[str, Any] = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = harness.client.get("/v1/projects", params=query).json()
        listed += [item["name"] for item in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert sorted(listed) == names
    assert pages == 3


@pytest.mark.parametrize("query", ["cursor=%00", "cursor=!!", "limit=0", "limit=1000000000", "limit=x"])
def test_invalid_pagination_parameters_are_rejected(harness: ControlPlaneHarness, query: str) -> None:
    assert harness.client.get(f"/v1/projects?{query}").status_code in (400, 422)


def test_quotas_are_checked_against_pool_and_cohort(harness: ControlPlaneHarness) -> None:
    harness.create_project("solo", gpus=2)
    harness.create_project("one", gpus=2, cohort="lab")
    missing = harness.client.put("/v1/projects/one/quotas/none", json={"nominal": 1})
    assert missing.status_code == 404
    lending = harness.client.put("/v1/projects/one/quotas/local", json={"nominal": 1, "lending_limit": 5})
    assert (lending.status_code, lending.json()["errors"][0]["pointer"]) == (422, "/lending_limit")
    limit = harness.client.put("/v1/projects/solo/quotas/local", json={"nominal": 1, "borrowing_limit": 1})
    assert limit.status_code == 422
    good = harness.client.put("/v1/projects/one/quotas/local", json={"nominal": 2, "borrowing_limit": 1})
    assert (good.json()["nominal"], good.json()["borrowing_limit"]) == (2, 1)


def test_last_owner_cannot_be_removed(harness: ControlPlaneHarness) -> None:
    harness.create_project("lab")
    assert harness.client.delete("/v1/projects/lab/members/admin").status_code == 409
    assert harness.client.put("/v1/projects/lab/members/admin", json={"role": "viewer"}).status_code == 409
    harness.client.put("/v1/projects/lab/members/bob", json={"role": "admin"})
    assert harness.client.delete("/v1/projects/lab/members/admin").status_code == 200


def test_concurrent_requests_with_one_idempotency_key_create_one_job(ready: ControlPlaneHarness) -> None:
    def submit(_: int) -> str:
        return str(ready.submit("ours", key="same")["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(submit, range(50)))
    assert len(ids) == 1
    with ready.database.read() as uow:
        assert len(uow.all_projects().jobs.all()) == 1
        assert len([e for e in uow.audit.all() if e.action == "job.create"]) == 1


def test_only_accepted_mutations_are_audited(harness: ControlPlaneHarness) -> None:
    before = len(audit(harness))
    harness.client.post("/v1/projects", json={"name": "lab"})
    harness.client.post("/v1/projects", json={"name": "lab"})
    harness.client.post("/v1/projects", json={"name": "Not A Name"})
    harness.client.put("/v1/projects/lab/members/bob", json={"role": "editor"}, headers={"X-Request-ID": "mine"})
    rows = audit(harness)[before:]
    assert [(row.action, row.actor) for row in rows] == [("project.create", "admin"), ("member.put", "admin")]
    assert rows[1].request_id == "mine"


def test_job_submission_requires_an_idempotency_key(ready: ControlPlaneHarness) -> None:
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
        ({"evaluation": {"gates": ["f1 > 0.5"]}}, "/spec"),
        ({"evaluation": {"gates": ["perplexity <= 5"]}}, "/spec"),
        ({"training": {"max_grad_norm": float("inf")}}, "/spec/training/max_grad_norm"),
        ({"method": {"type": "lora", "target_modules": ["\ud83d"]}}, "/spec/method"),
        ({"name": "two\nlines"}, "/spec/name"),
        ({"training": {"max_length": 1024}}, "/spec/training/max_length"),
        ({"resources": {"workers": 5}}, "/spec/resources/workers"),
        ({"task": "chat"}, "/spec/task"),
        ({"max_duration_seconds": 1}, "/spec/max_duration_seconds"),
        ({"entrypoint": "rm -rf /"}, "/spec/entrypoint"),
    ],
)
def test_invalid_job_spec_is_rejected_with_a_pointer(
    ready: ControlPlaneHarness, change: dict[str, Any], pointer: str
) -> None:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m", **change}
    body = json.dumps({"spec": spec}).replace("Infinity", "1e999")  # JSON has no infinity, but a number can overflow
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    reply = ready.client.post("/v1/projects/ours/jobs", content=body, headers=headers)
    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["pointer"].startswith(pointer)
    assert ready.client.get("/v1/projects/ours/jobs").json()["items"] == []


def test_job_larger_than_any_pool_is_rejected_with_a_suggestion(ready: ControlPlaneHarness) -> None:
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
    assert problem["context"]["suggestions"][0] == {"kind": "reduce_gpus", "by": 7, "to": 1}
    simulated = ready.client.post("/v1/projects/ours/jobs:simulate", json={"spec": spec}).json()
    assert simulated["verdict"] == "never"
    assert "to 1" in simulated["smallest_change"]


def test_open_hyperparameters_are_chosen_shown_and_stored(ready: ControlPlaneHarness) -> None:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    simulated = ready.client.post("/v1/projects/ours/jobs:simulate", json={"spec": spec}).json()
    chosen = {default["field"]: default["value"] for default in simulated["defaults"]}
    assert set(chosen) == {"batch_size", "epochs", "learning_rate"}
    assert all(default["reason"] for default in simulated["defaults"])
    job = ready.submit("ours", key="1", training={"seed": 9})
    training = job["spec"]["training"]
    assert chosen | {"seed": 9} == {name: training[name] for name in (*chosen, "seed")}
    events = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()["items"]
    assert next(event["context"] for event in events if event["code"] == "training_defaults") == chosen


def test_a_job_without_open_hyperparameters_has_no_event_about_them(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1", training={"epochs": 2, "batch_size": 2, "learning_rate": 1e-3})
    events = ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").json()["items"]
    assert "training_defaults" not in [event["code"] for event in events]


def test_second_job_waits_with_a_reason(ready: ControlPlaneHarness) -> None:
    ready.submit("ours", key="1")
    second = ready.submit("ours", key="2")
    ready.run_worker_once(2)
    job = ready.client.get(f"/v1/projects/ours/jobs/{second['id']}").json()
    assert (job["state"], job["reason"]["code"]) == ("queued", "waiting_for_quota")
    assert job["reason"]["context"]["position"] == 1


def test_usage_counts_seconds_of_admitted_gpus(ready: ControlPlaneHarness) -> None:
    pool = ready.client.get("/v1/pools/local")
    price = {"price_per_gpu_hour": 36.0}
    ready.client.patch("/v1/pools/local", json=price, headers={"If-Match": pool.headers["etag"]})
    job = ready.submit("ours", key="1")
    ready.run_worker_once(2)
    ready.clock.advance(100)
    item = ready.client.get("/v1/projects/ours/usage").json()["items"][0]
    assert (item["job"], item["gpu_seconds"], item["cost"]) == (job["id"], 100.0, 1.0)


def test_retry_creates_a_job_with_the_same_spec(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    url = f"/v1/projects/ours/jobs/{job['id']}"
    conflict = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"})
    assert conflict.status_code == 409
    ready.client.post(f"{url}:cancel")
    again = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"}).json()
    assert again["retry_of"] == job["id"]
    assert again["dataset"] == "reviews@1"
    assert ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"}).json()["id"] == again["id"]


def test_retry_is_rejected_if_the_dataset_was_recreated(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    url = f"/v1/projects/ours/jobs/{job['id']}"
    ready.client.post(f"{url}:cancel")
    assert ready.client.delete("/v1/projects/ours/datasets/reviews", headers={"If-Match": '"2"'}).status_code == 200
    without_dataset = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"})
    assert (without_dataset.status_code, without_dataset.json()["errors"][0]["pointer"]) == (422, "/spec/dataset")
    ready.create_dataset("ours")
    other = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"})
    assert (other.status_code, other.json()["errors"][0]["pointer"]) == (422, "/spec/dataset")
    assert f"job {job['id']} used another dataset" in other.json()["detail"]


def test_retry_is_rejected_if_the_base_model_was_recreated(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    url = f"/v1/projects/ours/jobs/{job['id']}"
    ready.client.post(f"{url}:cancel")
    with ready.database.write() as uow:
        uow.base_models.delete({"name": "tiny"})
    ready.create_base_model()
    other = ready.client.post(f"{url}:retry", headers={"Idempotency-Key": "r"})
    assert (other.status_code, other.json()["errors"][0]["pointer"]) == (422, "/spec/base_model")
    assert "which was deleted and created again" in other.json()["detail"]


def test_active_jobs_per_project_are_limited(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path, limits=LimitSettings(max_active_jobs=2))
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    first = harness.submit("ours", key="1")
    harness.submit("ours", key="2")
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    request = {"json": {"spec": spec}, "headers": {"Idempotency-Key": "3"}}
    rejected = harness.client.post("/v1/projects/ours/jobs", **request)  # type: ignore[arg-type]  # mixed value types
    assert (rejected.status_code, rejected.json()["code"]) == (409, "limit_reached")
    assert rejected.json()["context"] == {"active": 2, "limit": 2}
    assert harness.submit("ours", key="1")["id"] == first["id"]
    harness.client.post(f"/v1/projects/ours/jobs/{first['id']}:cancel")
    assert harness.client.post("/v1/projects/ours/jobs", **request).status_code == 202  # type: ignore[arg-type]  # as above
    harness.close()


def test_event_stream_is_complete_and_resumes_after_last_event_id(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel")
    url = f"/v1/projects/ours/jobs/{job['id']}/events"
    stream = ready.client.get(url, headers={"Accept": "text/event-stream"}).text
    assert stream.count("event: event\n") == 4
    assert stream.rstrip().split("\n\n")[-1].startswith("event: end")
    rest = ready.client.get(url, headers={"Accept": "text/event-stream", "Last-Event-ID": "3"}).text
    assert rest.count("event: event\n") == 1
    assert "id: 4\n" in rest


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize("number", ["99999999999999999999", "-1", "x", "1_0", "٣"])
def test_invalid_number_in_cursor_or_event_id_is_rejected(ready: ControlPlaneHarness, number: str) -> None:
    url = f"/v1/projects/ours/jobs/{ready.submit('ours', key='1')['id']}"
    for tail in ("events", "checkpoints"):
        reply = ready.client.get(f"{url}/{tail}", params={"cursor": cursor(number)})
        assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (400, "/query/cursor")
    stream = {"Accept": "text/event-stream", "Last-Event-ID": number.encode()}
    for tail in ("events", "logs"):
        reply = ready.client.get(f"{url}/{tail}", headers=stream)  # type: ignore[arg-type]  # raw header bytes
        assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (400, "/header/Last-Event-ID")


@pytest.mark.parametrize("offset", ["3", "-1", "999999999", "9" * 30, "1_0", ""])
def test_cursor_into_the_middle_of_a_row_is_rejected(ready: ControlPlaneHarness, offset: str) -> None:
    url = "/v1/projects/ours/datasets/reviews/versions/1/rows"
    reply = ready.client.get(url, params={"cursor": cursor(offset)})
    assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (400, "/query/cursor")
    first = ready.client.get(url, params={"limit": 3}).json()
    rest = ready.client.get(url, params={"cursor": first["next_cursor"]}).json()
    assert (len(first["items"]), len(rest["items"])) == (3, 1)


def test_if_match_with_too_many_digits_is_a_failed_precondition(ready: ControlPlaneHarness) -> None:
    def status(etag: str) -> int:
        reply = ready.client.patch("/v1/projects/ours", json={"display_name": "x"}, headers={"If-Match": etag})
        return int(reply.status_code)

    assert status("1" * 100) == 412
    assert status("1" * 5000) == 400, "longer than any ETag"


def test_metrics_include_the_age_of_the_oldest_outbox_intent(ready: ControlPlaneHarness) -> None:
    ready.run_worker_once()
    assert "windlass_outbox_oldest_seconds 0.0" in ready.client.get("/metrics").text
    ready.submit("ours", key="1")
    ready.jobs.admit()  # puts the intent to submit the run
    ready.clock.advance(75)
    assert "windlass_outbox_oldest_seconds 75.0" in ready.client.get("/metrics").text


def test_prometheus_metrics_require_admin_and_have_no_ids(ready: ControlPlaneHarness) -> None:
    ready.submit("ours", key="1")
    text = ready.client.get("/metrics").text
    assert 'windlass_http_requests_total{operation="createJob",status="202"}' in text
    assert "job_0" not in text
    assert ready.client_for_user("eve").get("/metrics").status_code == 403


def test_quota_shows_waiting_jobs_and_wait_quantiles(ready: ControlPlaneHarness) -> None:
    first, second = ready.submit("ours", key="1"), ready.submit("ours", key="2")
    ready.dispatch_outbox()  # they are queued
    ready.clock.advance(30)
    ready.run_worker_once(2)
    [item] = ready.client.get("/v1/projects/ours/quotas").json()["items"]
    assert (item["used"], item["queue_time_p50_seconds"], item["queue_time_p90_seconds"]) == (1, 30.0, 30.0)
    [waiting] = item["waiting"]
    assert (waiting["job"], waiting["position"], waiting["gpus"]) == (second["id"], 1, 1)
    assert first["id"] not in {job["job"] for job in item["waiting"]}
    ready.clock.advance(8 * 24 * 3600)
    ready.delete_expired()
    [item] = ready.client.get("/v1/projects/ours/quotas").json()["items"]
    assert item["queue_time_p50_seconds"] is None


def test_quota_change_supports_dry_run_and_is_applied_immediately(ready: ControlPlaneHarness) -> None:
    """Embedded mode: two jobs, one of which waits."""
    for key in ("1", "2"):
        ready.submit("ours", key=key)
    ready.run_worker_once(2)
    path = "/v1/projects/ours/quotas/local"
    with ready.database.write() as uow:
        uow.pools.save(uow.pools.get({"name": "local"}).model_copy(update={"capacity": 2}))
    preview = ready.client.put(path, json={"nominal": 2}, params={"dry_run": "true"}).json()
    assert (preview["state"], [job["project"] for job in preview["starts"]]) == ("checked", ["ours"])
    assert ready.client.get("/v1/projects/ours/quotas").json()["items"][0]["nominal"] == 1
    done = ready.client.put(path, json={"nominal": 2})
    assert (done.status_code, done.json()["state"]) == (200, "applied")
    stored = ready.client.get(f"/v1/projects/ours/quota-changes/{done.json()['id']}").json()
    assert (stored["state"], stored["nominal"]) == ("applied", 2)
    assert ready.client.delete(path).json()["nominal"] is None
    assert ready.client.get("/v1/projects/ours/quotas").json()["items"] == []
