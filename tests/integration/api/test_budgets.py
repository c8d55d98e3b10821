"""Budgets: who sets them, when they warn, and what they refuse."""

from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.ports import BackendState
from windlass_api.metrics import BUDGET_USED

pytestmark = pytest.mark.database("sqlite", "postgresql")
SPEC = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}


def budget(harness: ControlPlaneHarness, **limits: float | None) -> dict[str, Any]:
    """Set the budget of the project, or only return it."""
    url = "/v1/projects/ours/budget"
    reply = harness.client.get(url)
    if limits:
        body = {"gpu_hours": None, "cost": None, **limits}
        reply = harness.client.put(url, json=body, headers={"If-Match": reply.headers["ETag"]})
    assert reply.status_code == 200, reply.text
    content: dict[str, Any] = reply.json()
    assert reply.headers["ETag"] == f'"{content["version"]}"'
    return content


def submit(harness: ControlPlaneHarness, key: str, **spec: Any) -> Any:
    body = {"spec": {**SPEC, "max_duration_seconds": 60, **spec}}
    return harness.client.post("/v1/projects/ours/jobs", json=body, headers={"Idempotency-Key": key})


def hold(harness: ControlPlaneHarness, seconds: float) -> None:
    """Let a job hold one GPU for this time."""
    job = harness.submit("ours", key=harness.deps.new_id("key"))
    harness.run_worker_once(2)
    harness.clock.advance(seconds)
    harness.pipelines.end(harness.simulated_run(job).name, BackendState.FAILED, "gone")
    harness.run_worker_once()


def test_a_budget_is_set_by_platform_admins_only(ready: ControlPlaneHarness) -> None:
    assert budget(ready)["state"] == "unlimited"
    assert (budget(ready)["version"], budget(ready)["used_ratio"]) == (0, None)
    made = budget(ready, gpu_hours=10, cost=2.5)
    assert (made["gpu_hours"], made["cost"], made["state"], made["version"]) == (10, 2.5, "ok", 1)
    assert (made["changed_by"], made["month"], made["resets_at"][:10]) == ("admin", "2026-01", "2026-02-01")
    ready.client.put("/v1/projects/ours/members/olga", json={"role": "admin"})
    olga = ready.client_for_user("olga")
    body = {"gpu_hours": 1000, "cost": None}
    reply = olga.put("/v1/projects/ours/budget", json=body, headers={"If-Match": '"1"'})
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert "platform admin" in reply.json()["hint"]
    assert olga.get("/v1/projects/ours/budget").json() == budget(ready)
    [listed] = ready.client.get("/v1/budgets").json()["items"]
    assert listed == budget(ready)
    [entry] = ready.client.get("/v1/audit", params={"action": "budget.put", "outcome": "accepted"}).json()["items"]
    assert (entry["actor"], entry["name"]) == ("admin", "ours")


def test_a_change_applies_to_the_version_that_was_read(ready: ControlPlaneHarness) -> None:
    url, body = "/v1/projects/ours/budget", {"gpu_hours": 1, "cost": None}
    assert ready.client.put(url, json=body).status_code == 428
    assert ready.client.put(url, json=body, headers={"If-Match": '"1"'}).status_code == 412
    assert ready.client.put(url, json=body, headers={"If-Match": '"0"'}).status_code == 200
    assert ready.client.put(url, json=body, headers={"If-Match": '"0"'}).status_code == 412
    assert ready.client.put(url, json=body, headers={"If-Match": '"1"'}).json()["version"] == 2
    for wrong in ({"gpu_hours": -1, "cost": None}, {"gpu_hours": 1}, {"gpu_hours": 1e10, "cost": None}):
        assert ready.client.put(url, json=wrong, headers={"If-Match": '"2"'}).status_code == 422


def test_jobs_are_warned_about_from_80_percent_and_refused_from_100(ready: ControlPlaneHarness) -> None:
    budget(ready, gpu_hours=1)
    hold(ready, 0.79 * 3600)
    assert submit(ready, "a").json()["warnings"] == []
    hold_id = submit(ready, "b", max_duration_seconds=3600).json()
    assert [warning["code"] for warning in hold_id["warnings"]] == ["budget_may_be_exceeded"]
    for job in ready.client.get("/v1/projects/ours/jobs", params={"state": "queued"}).json()["items"]:
        ready.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel")
    hold(ready, 0.01 * 3600)
    assert budget(ready)["state"] == "warning"
    warned = submit(ready, "c").json()
    assert [warning["code"] for warning in warned["warnings"]] == ["budget_nearly_used"]
    ready.run_worker_once(2)
    ready.clock.advance(0.2 * 3600)
    assert budget(ready)["state"] == "exhausted"
    refused = submit(ready, "d")
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["retryable"]) == (409, "budget_exceeded", False)
    assert "1.0 of 1.0 GPU-hours" in problem["detail"]
    assert "windlass budget set --project ours" in problem["hint"]
    assert (problem["context"]["used_gpu_hours"], problem["context"]["budget_gpu_hours"]) == (pytest.approx(1), 1)
    dry_run = ready.client.post("/v1/projects/ours/jobs:simulate", json={"spec": SPEC})
    assert dry_run.json()["code"] == "budget_exceeded"
    assert submit(ready, "c").json()["id"] == warned["id"], "a repeated request returns its job"
    assert ready.client.get(f"/v1/projects/ours/jobs/{warned['id']}").json()["state"] != "cancelled"
    budget(ready, gpu_hours=5)
    assert submit(ready, "d").status_code == 202


def test_a_budget_begins_again_with_each_month(ready: ControlPlaneHarness) -> None:
    budget(ready, gpu_hours=0.01)
    hold(ready, 3600)
    assert submit(ready, "a").json()["code"] == "budget_exceeded"
    ready.clock.advance(31 * 24 * 3600)
    assert submit(ready, "a").status_code == 202
    assert budget(ready)["used_gpu_hours"] == 0


def test_a_deleted_job_frees_no_budget(ready: ControlPlaneHarness) -> None:
    budget(ready, gpu_hours=1)
    hold(ready, 3600)
    [job] = ready.client.get("/v1/projects/ours/jobs").json()["items"]
    assert ready.client.delete(f"/v1/projects/ours/jobs/{job['id']}").status_code == 200
    assert submit(ready, "a").json()["code"] == "budget_exceeded"
    ready.delete_expired()
    assert submit(ready, "a").json()["code"] == "budget_exceeded"


def test_the_cost_counts_with_the_prices_of_its_time(ready: ControlPlaneHarness) -> None:
    etag = ready.client.get("/v1/pools/local").headers["ETag"]
    ready.client.patch("/v1/pools/local", json={"price_per_gpu_hour": 3.0}, headers={"If-Match": etag})
    budget(ready, cost=3)
    hold(ready, 3599)
    assert submit(ready, "a", max_duration_seconds=60).json()["warnings"][0]["code"] == "budget_nearly_used"
    ready.run_worker_once(2)
    ready.clock.advance(1)
    assert budget(ready)["used_cost"] == 3
    assert submit(ready, "b").json()["code"] == "budget_exceeded"


def test_each_threshold_is_recorded_once_in_a_month(ready: ControlPlaneHarness) -> None:
    budget(ready, gpu_hours=1)
    metering = ready.worker.metering
    hold(ready, 0.5 * 3600)
    metering.step()
    assert budget(ready)["alerts"] == []
    hold(ready, 0.3 * 3600)
    metering.step()
    metering.step()
    assert [alert["percent"] for alert in budget(ready)["alerts"]] == [80]
    hold(ready, 0.2 * 3600)
    metering.step()
    metering.step()
    assert [alert["percent"] for alert in budget(ready)["alerts"]] == [80, 100]
    actions = ("budget.warning", "budget.exhausted")
    entries = [ready.client.get("/v1/audit", params={"action": action}).json()["items"] for action in actions]
    assert [[entry["actor"] for entry in found] for found in entries] == [["system"], ["system"]]
    metrics = ready.client.get("/metrics").text
    assert 'windlass_budget_used_ratio{project="ours"} 1.0' in metrics
    budget(ready, gpu_hours=None, cost=None)
    metering.step()
    assert next(iter(BUDGET_USED.collect())).samples == []


def test_both_thresholds_may_be_reached_at_once(ready: ControlPlaneHarness) -> None:
    budget(ready, gpu_hours=0)
    ready.worker.metering.step()
    assert [alert["percent"] for alert in budget(ready)["alerts"]] == [80, 100]
    actions = ("budget.warning", "budget.exhausted")
    entries = [ready.client.get("/v1/audit", params={"action": action}).json()["items"] for action in actions]
    assert [len(found) for found in entries] == [1, 1]


def test_a_budget_of_another_project_is_its_own(ready: ControlPlaneHarness) -> None:
    ready.create_project("theirs", pool="other")
    url = "/v1/projects/theirs/budget"
    assert ready.client.put(url, json={"gpu_hours": 0, "cost": None}, headers={"If-Match": '"0"'}).status_code == 200
    assert submit(ready, "a").status_code == 202
    assert ready.client.get(url).json()["state"] == "exhausted"
