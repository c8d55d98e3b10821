"""``windlass endpoint traffic`` with a real control plane."""

import json

import pytest
from tests.factories.live_endpoints import add_live_endpoint
from tests.fakes.harness import ControlPlaneHarness
from tests.unit.cli.conftest import Windlass

from windlass.domain.specs import Task
from windlass.domain.usage import RequestGroup


@pytest.fixture
def served(cli: Windlass, harness: ControlPlaneHarness) -> Windlass:
    """The CLI of a project whose endpoint has had three requests an hour ago."""
    with harness.database.read() as uow:
        project = uow.projects.get({"name": "default"}).id
    add_live_endpoint(harness, project, "texts", Task.TEXT_CLASSIFICATION)
    usage = harness.app_context.request_usage
    group = RequestGroup(project, "key_1", "texts", "m", 1)
    usage.count(group, "succeeded", seconds=0.045)
    usage.count(group, "succeeded", seconds=0.045)
    usage.count(group, "failed")
    usage.flush()
    return cli


def test_requests_errors_and_latencies_are_shown_by_time(served: Windlass) -> None:
    shown = served("endpoint", "traffic", "texts", "--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z")
    assert shown.code == 0, shown.err
    titles, row = shown.out.splitlines()
    assert titles.split() == ["FROM", "REQUESTS", "FAILED", "REJECTED", "CANCELLED", "P50", "P95"]
    assert row.split()[2:] == ["3", "1", "-", "-", "40", "ms", "49", "ms"]
    assert shown.err.strip() == "3 requests, 1 failed, 0 rejected, p50 40 ms, p95 49 ms"


def test_json_has_all_points(served: Windlass) -> None:
    query = ("--since", "2026-01-01T11:00:00Z", "--until", "2026-01-01T13:00:00Z", "--step", "10m", "--json")
    body = json.loads(served("endpoint", "traffic", "texts", *query).out)
    assert (body["step_seconds"], len(body["points"]), body["total"]["requests"]) == (600, 12, 3)


def test_a_time_without_requests_and_wrong_times(served: Windlass) -> None:
    shown = served("endpoint", "traffic", "texts", "--since", "1h", "--until", "1s")
    assert (shown.code, shown.err.splitlines()) == (0, ["no results", "0 requests, 0 failed, 0 rejected"])
    assert served("endpoint", "traffic", "texts", "--since", "yesterday").code == 2
    wrong = served("endpoint", "traffic", "texts", "--since", "1h", "--until", "1s", "--step", "90s")
    assert "multiple of 60" in wrong.err
    assert served("endpoint", "traffic", "absent").code == 4
