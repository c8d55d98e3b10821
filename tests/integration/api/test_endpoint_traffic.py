"""Requests to endpoints over time: counted by minute in memory, stored every few seconds, kept for days."""

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from tests.factories.http_servers import serve
from tests.factories.live_endpoints import add_live_endpoint
from tests.fakes.harness import ControlPlaneHarness
from tests.fakes.model_server import stub_model_server

from windlass.domain.endpoint_traffic import MAX_POINTS
from windlass.domain.specs import Task
from windlass.domain.usage import RequestGroup
from windlass.services.request_usage import RequestUsageCounter
from windlass_api.app import create_app

pytestmark = pytest.mark.database("sqlite", "postgresql")
URL = "/v1/projects/ours/endpoints/texts"


@pytest.fixture
def group(harness: ControlPlaneHarness) -> RequestGroup:
    """A served endpoint, and what its requests are counted by."""
    project = harness.create_project("ours")
    add_live_endpoint(harness, project, "texts", Task.TEXT_CLASSIFICATION)
    return RequestGroup(project, "key_1", "texts", "m", 1)


def counter_of(harness: ControlPlaneHarness, instance: str = "api_1") -> RequestUsageCounter:
    return RequestUsageCounter(harness.database, instance, harness.clock)


def traffic(harness: ControlPlaneHarness, **query: Any) -> dict[str, Any]:
    reply = harness.client.get(f"{URL}/traffic", params=query)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def busy_points(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [point for point in body["points"] if point["requests"]]


def test_replicas_and_minutes_add_up_in_each_step(harness: ControlPlaneHarness, group: RequestGroup) -> None:
    start = harness.clock.now()
    counters = [counter_of(harness, name) for name in ("api_1", "api_2")]
    for counter in counters:
        for _ in range(10):
            counter.count(group, "succeeded", seconds=0.04)
        counter.flush()
    harness.clock.advance(60)
    for outcome in ("rejected", "failed", "failed", "cancelled"):
        counters[0].count(group, outcome)
    counters[0].count(group._replace(number=2), "succeeded", seconds=4.0)
    counters[0].flush()
    harness.clock.advance(300)
    now = harness.clock.now()
    body = traffic(harness, since=start.isoformat(), until=now.isoformat())
    assert (body["step_seconds"], len(body["points"])) == (60, 6)
    first, second = busy_points(body)
    assert (first["at"], first["requests"], first["succeeded"]) == (f"{start:%Y-%m-%dT%H:%M:%S}Z", 20, 20)
    assert 30 < first["p50_milliseconds"] < first["p95_milliseconds"] <= 50
    outcomes = {name: second[name] for name in ("succeeded", "rejected", "failed", "cancelled", "requests")}
    assert outcomes == {"succeeded": 1, "rejected": 1, "failed": 2, "cancelled": 1, "requests": 5}
    assert 3000 < second["p50_milliseconds"] <= 5000
    [both] = busy_points(traffic(harness, since=start.isoformat(), until=now.isoformat(), step=600))
    assert (both["requests"], both["succeeded"]) == (25, 21)
    assert both["p50_milliseconds"] <= 50
    assert body["total"] == {key: value for key, value in both.items() if key != "at"}


def test_a_minute_is_stored_again_with_what_was_added(harness: ControlPlaneHarness, group: RequestGroup) -> None:
    counter = counter_of(harness)
    for expected in (1, 2):
        counter.count(group, "succeeded", seconds=0.01)
        counter.flush()
        counter.flush()
        assert traffic(harness)["total"]["requests"] == expected
    harness.clock.advance(60)
    counter.count(group, "failed")
    counter.flush()
    harness.clock.set_wall_clock(-60)
    counter.count(group, "failed")
    counter.flush()
    harness.clock.advance(3600)
    assert [point["requests"] for point in busy_points(traffic(harness, step=60, **last(harness, 2)))] == [2, 2]


def last(harness: ControlPlaneHarness, hours: float) -> dict[str, str]:
    return {"since": (harness.clock.now() - timedelta(hours=hours)).isoformat()}


def test_a_latency_beyond_the_last_bound_and_no_latency(harness: ControlPlaneHarness, group: RequestGroup) -> None:
    counter = counter_of(harness)
    counter.count(group, "failed", seconds=9999)
    counter.flush()
    assert traffic(harness)["total"]["p95_milliseconds"] is None, "only requests that succeeded have a latency"
    counter.count(group, "succeeded", seconds=9999)
    counter.flush()
    assert traffic(harness)["total"]["p50_milliseconds"] == 300_000


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "/query/since"),
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "step": 60}, "/query/step"),
        ({"step": 90}, "/query/step"),
        ({"since": "0001-01-01T00:00:00Z"}, "/query/step"),
    ],
)
def test_a_time_without_or_with_too_many_points_is_refused(
    harness: ControlPlaneHarness, group: RequestGroup, query: dict[str, Any], pointer: str
) -> None:
    assert group
    reply = harness.client.get(f"{URL}/traffic", params=query)
    assert reply.status_code == 422
    assert [each["pointer"] for each in reply.json()["errors"]] == [pointer]


def test_the_server_chooses_a_step_with_few_points(harness: ControlPlaneHarness, group: RequestGroup) -> None:
    assert group
    for hours, step in ((1, 60), (24, 300), (7 * 24, 3600), (90 * 24, 43_200)):
        body = traffic(harness, **last(harness, hours))
        assert body["step_seconds"] == step
        assert len(body["points"]) <= MAX_POINTS


def test_an_endpoint_has_none_of_an_earlier_one_of_its_name(harness: ControlPlaneHarness, group: RequestGroup) -> None:
    counter = counter_of(harness)
    counter.count(group, "succeeded")
    counter.flush()
    harness.clock.advance(3600)
    with harness.database.write() as uow:
        endpoints = uow.project(group.project).endpoints
        endpoints.delete({"name": "texts"})
    assert harness.client.get(f"{URL}/traffic").status_code == 404
    add_live_endpoint(harness, group.project, "texts", Task.TEXT_CLASSIFICATION)
    assert traffic(harness)["total"]["requests"] == 0


def stored_minutes(harness: ControlPlaneHarness) -> int:
    with harness.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM endpoint_traffic").scalar_one())


def test_old_minutes_are_deleted(harness: ControlPlaneHarness, group: RequestGroup) -> None:
    counter = counter_of(harness)
    for _ in range(2):
        counter.count(group, "succeeded")
        counter.flush()
        harness.clock.advance(4 * 24 * 3600)
    harness.delete_expired()
    assert stored_minutes(harness) == 1
    assert traffic(harness, **last(harness, 14 * 24))["total"]["requests"] == 1


def test_the_minutes_of_a_deleted_project_are_deleted(harness: ControlPlaneHarness, group: RequestGroup) -> None:
    counter = counter_of(harness)
    counter.count(group, "succeeded")
    counter.flush()
    with harness.database.write() as uow:
        uow.project(group.project).endpoints.delete({"name": "texts"})
    etag = harness.client.get("/v1/projects/ours").headers["ETag"]
    assert harness.client.delete("/v1/projects/ours", headers={"If-Match": etag}).status_code == 200
    harness.delete_expired()
    assert stored_minutes(harness) == 0


# ---------------------------------------------------------------- through the API


@pytest.fixture
def api(harness: ControlPlaneHarness, group: RequestGroup) -> Iterator[str]:
    """The address of an API whose model server answers."""
    assert group
    with stub_model_server() as model, serve(create_app(harness.app_context)) as port:
        harness.serving.base_url = model.url
        model.failures = [500, 422, 0]
        model.answer = {"predictions": [[{"label": "good", "score": 0.75}]]}
        yield f"http://127.0.0.1:{port}"


def predict(harness: ControlPlaneHarness, api: str) -> int:
    headers = {"Authorization": harness.client.headers["Authorization"], "Content-Type": "application/json"}
    content = json.dumps({"inputs": ["a"]})
    return httpx2.post(f"{api}{URL}:predict", content=content, headers=headers, trust_env=False, timeout=60).status_code


def test_predictions_are_counted_with_their_latencies(harness: ControlPlaneHarness, api: str) -> None:
    began = time.monotonic()
    assert [predict(harness, api) for _ in range(3)] == [502, 422, 200]
    seconds = time.monotonic() - began
    harness.app_context.request_usage.flush()
    total = traffic(harness)["total"]
    assert (total["requests"], total["succeeded"], total["rejected"], total["failed"]) == (3, 1, 1, 1)
    assert 0 < total["p95_milliseconds"] <= max(5, 2 * seconds * 1000), "at most the bound of its bucket"


def test_requests_that_no_version_can_serve_have_failed(harness: ControlPlaneHarness, api: str) -> None:
    with harness.database.write() as uow:
        projects = uow.projects.get({"name": "ours"}).id
        endpoints = uow.project(projects).endpoints
        endpoints.save(endpoints.get({"name": "texts"}).model_copy(update={"live": ()}))
    assert predict(harness, api) == 503
    harness.app_context.request_usage.flush()
    total = traffic(harness)["total"]
    assert (total["requests"], total["failed"]) == (1, 1)
    usage = harness.client.get(f"/v1/projects/ours/usage/months/{datetime.now():%Y-%m}")  # noqa: DTZ005 - any month
    assert usage.json()["items"] == []
