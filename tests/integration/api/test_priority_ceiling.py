"""The priority ceiling of a project is set by admins and limits the priority of its jobs."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.projects import Role, SubjectKind
from windlass.services.projects import Members

URL = "/v1/projects/ours"


def create_owner(harness: ControlPlaneHarness) -> TestClient:
    with harness.database.read() as uow:
        project = uow.projects.get({"name": "ours"})
    Members(harness.deps, ADMIN, project.id).put(SubjectKind.USER, "olga", Role.ADMIN)
    return harness.client_for_user("olga")


def patch_project(client: TestClient, body: dict[str, Any]) -> Any:
    etag = client.get(URL).headers["etag"]
    return client.patch(URL, json=body, headers={"If-Match": etag})


def job(harness: ControlPlaneHarness, key: str, priority: int) -> Any:
    spec = {
        "task": "text-classification",
        "base_model": "tiny",
        "dataset": "reviews",
        "model": "m",
        "priority": priority,
    }
    return harness.client.post(f"{URL}/jobs", json={"spec": spec}, headers={"Idempotency-Key": key})


def test_job_above_the_priority_ceiling_is_rejected(ready: ControlPlaneHarness) -> None:
    rejected = job(ready, "one", 1)
    assert rejected.status_code == 422
    assert rejected.json()["errors"] == [
        {"pointer": "/spec/priority", "detail": "1 is above 0, the priority ceiling of project ours"}
    ]
    assert job(ready, "two", 0).status_code == 202
    assert job(ready, "three", -7).status_code == 202
    assert patch_project(ready.client, {"priority_ceiling": 5}).json()["priority_ceiling"] == 5
    assert job(ready, "four", 5).status_code == 202
    assert "above 5" in job(ready, "five", 6).json()["detail"]


def test_owner_cannot_raise_the_priority_ceiling(ready: ControlPlaneHarness) -> None:
    client = create_owner(ready)
    assert patch_project(client, {"display_name": "Ours"}).status_code == 200
    assert patch_project(client, {"priority_ceiling": 1000}).status_code == 403
    assert client.get(URL).json()["priority_ceiling"] == 0
    assert patch_project(ready.client, {"priority_ceiling": 1001}).status_code == 422


@pytest.mark.parametrize(("ceiling", "first"), [(10, "pushed"), (0, "earlier")])
def test_lowered_priority_ceiling_applies_to_queued_jobs(ready: ControlPlaneHarness, ceiling: int, first: str) -> None:
    assert patch_project(ready.client, {"priority_ceiling": 10}).status_code == 200
    assert job(ready, "holder", 10).status_code == 202
    ready.run_worker_once()
    ids = {"earlier": job(ready, "earlier", 0).json()["id"]}
    ready.clock.advance(60)
    ids["pushed"] = job(ready, "pushed", 10).json()["id"]
    ready.run_worker_once()
    assert patch_project(ready.client, {"priority_ceiling": ceiling}).status_code == 200
    ready.run_worker_once()
    (second,) = {"pushed", "earlier"} - {first}
    states = {name: ready.client.get(f"{URL}/jobs/{ids[name]}").json() for name in ids}
    assert states[first]["reason"]["context"]["position"] < states[second]["reason"]["context"]["position"]
