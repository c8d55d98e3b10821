"""How far a project may push its jobs forward is an admin's decision."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.fakes.house import ADMIN, House

from windlass.domain.projects import Role
from windlass.services.projects import Members

URL = "/v1/projects/ours"


def owner_of(house: House) -> TestClient:
    with house.database.read() as work:
        project = work.projects.get(name="ours")
    Members(house.backing, ADMIN, project.id).put("olga", Role.OWNER)
    return house.client_of("olga")


def patched(client: TestClient, body: dict[str, Any]) -> Any:
    tag = client.get(URL).headers["etag"]
    return client.patch(URL, json=body, headers={"If-Match": tag})


def job(house: House, key: str, priority: int) -> Any:
    spec = {
        "task": "text-classification",
        "base_model": "tiny",
        "dataset": "reviews",
        "model": "m",
        "priority": priority,
    }
    return house.client.post(f"{URL}/jobs", json={"spec": spec}, headers={"Idempotency-Key": key})


def test_a_job_above_the_ceiling_is_refused_and_told_the_ceiling(ready: House) -> None:
    refused = job(ready, "one", 1)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"pointer": "/spec/priority", "detail": "1 is above 0, the priority ceiling of project ours"}
    ]
    assert job(ready, "two", 0).status_code == 202
    assert job(ready, "three", -7).status_code == 202
    assert patched(ready.client, {"priority_ceiling": 5}).json()["priority_ceiling"] == 5
    assert job(ready, "four", 5).status_code == 202
    assert "above 5" in job(ready, "five", 6).json()["detail"]


def test_an_owner_cannot_raise_the_ceiling(ready: House) -> None:
    client = owner_of(ready)
    assert patched(client, {"display_name": "Ours"}).status_code == 200
    assert patched(client, {"priority_ceiling": 1000}).status_code == 403
    assert client.get(URL).json()["priority_ceiling"] == 0
    assert patched(ready.client, {"priority_ceiling": 1001}).status_code == 422


@pytest.mark.parametrize(("ceiling", "first"), [(10, "pushed"), (0, "earlier")])
def test_a_ceiling_that_was_lowered_holds_for_what_waits(ready: House, ceiling: int, first: str) -> None:
    assert patched(ready.client, {"priority_ceiling": 10}).status_code == 200
    assert job(ready, "holder", 10).status_code == 202
    ready.turn()
    made = {"earlier": job(ready, "earlier", 0).json()["id"]}
    ready.clock.forward(60)
    made["pushed"] = job(ready, "pushed", 10).json()["id"]
    ready.turn()
    assert patched(ready.client, {"priority_ceiling": ceiling}).status_code == 200
    ready.turn()
    (second,) = {"pushed", "earlier"} - {first}
    states = {name: ready.client.get(f"{URL}/jobs/{made[name]}").json() for name in made}
    assert states[first]["reason"]["facts"]["position"] < states[second]["reason"]["facts"]["position"]
