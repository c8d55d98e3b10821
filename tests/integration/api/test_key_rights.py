"""No key gives more than the credential that created it."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ControlPlaneHarness


def create(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/keys", json={"user": "ada", **body})


def client_of(harness: ControlPlaneHarness, **body: Any) -> TestClient:
    """A client with a key of the user ``ada`` that a platform admin created."""
    return harness.client_for_key(create(harness.client, **body).json()["secret"])


def test_a_user_creates_own_keys(ready: ControlPlaneHarness) -> None:
    ready.client.put("/v1/projects/ours/members/ada", json={"role": "editor"})
    reply = create(client_of(ready), name="laptop", permissions=["jobs:read"], expires_in_days=7)
    assert reply.status_code == 201
    assert reply.json()["expires_at"].startswith((ready.clock.now() + timedelta(days=7)).date().isoformat())
    narrow = ready.client_for_key(reply.json()["secret"])
    assert narrow.get("/v1/projects/ours/jobs").status_code == 200
    assert narrow.get("/v1/projects/ours/models").status_code == 403


@pytest.mark.parametrize(
    ("own", "asked"),
    [
        ({}, {"user": "bob"}),
        ({}, {"platform_role": "platform-viewer"}),
        ({}, {"platform_role": "platform-admin"}),
        ({"platform_role": "platform-viewer"}, {"platform_role": "platform-admin"}),
        ({"project": "ours"}, {}),
        ({"expires_in_days": 1}, {}),
        ({"expires_in_days": 1}, {"expires_in_days": 2}),
        ({"permissions": ["keys:own", "jobs:read"]}, {}),
        ({"permissions": ["keys:own", "jobs:read"]}, {"permissions": ["jobs:write"]}),
    ],
    ids=str,
)
def test_a_key_with_more_rights_is_refused(
    ready: ControlPlaneHarness, own: dict[str, Any], asked: dict[str, Any]
) -> None:
    ready.create_project("theirs", pool="other")
    ready.client.put("/v1/projects/ours/members/ada", json={"role": "admin"})
    client = client_of(ready, **own)
    before = len(ready.client.get("/v1/keys").json()["items"])
    assert create(client, **asked).status_code == 403
    assert len(ready.client.get("/v1/keys").json()["items"]) == before


def test_a_key_for_a_foreign_project_is_one_for_a_project_that_does_not_exist(ready: ControlPlaneHarness) -> None:
    ready.create_project("theirs", pool="other")
    ready.client.put("/v1/projects/ours/members/ada", json={"role": "admin"})
    client = client_of(ready, project="ours")
    foreign, missing = create(client, project="theirs"), create(client, project="missing")
    assert (foreign.status_code, missing.status_code) == (404, 404)
    assert foreign.json()["detail"].replace("theirs", "missing") == missing.json()["detail"]


def test_a_narrow_key_does_not_get_a_wide_one_by_renewal(ready: ControlPlaneHarness) -> None:
    wide = create(ready.client).json()
    narrow = client_of(ready, permissions=["keys:own"])
    assert narrow.post(f"/v1/keys/{wide['id']}:renew").status_code == 404
    assert narrow.delete(f"/v1/keys/{wide['id']}").status_code == 404
    assert create(narrow, permissions=["keys:own"]).status_code == 201


def test_a_platform_viewer_reads_everything_and_changes_nothing(ready: ControlPlaneHarness) -> None:
    viewer = client_of(ready, platform_role="platform-viewer")
    for path in ("projects/ours", "projects/ours/jobs", "audit", "quotas", "users", "pools"):
        assert viewer.get(f"/v1/{path}").status_code == 200, path
    assert viewer.get("/metrics").status_code == 200
    assert [project["name"] for project in viewer.get("/v1/projects").json()["items"]] == ["ours"]
    for reply in (
        viewer.post("/v1/projects", json={"name": "mine"}),
        viewer.post("/v1/projects/ours/datasets", json={"name": "a", "task": "chat"}),
        viewer.put("/v1/projects/ours/members/ada", json={"role": "admin"}),
        viewer.post("/v1/users/bob:disable"),
    ):
        assert reply.status_code == 403


def test_groups_with_the_name_of_a_user_are_no_user(ready: ControlPlaneHarness) -> None:
    ready.client.put("/v1/projects/ours/groups/ada", json={"role": "admin"})
    ready.client.put("/v1/projects/ours/groups//ml/team", json={"role": "viewer"})
    assert client_of(ready).get("/v1/projects/ours").status_code == 404
    members = ready.client.get("/v1/projects/ours/members").json()["items"]
    assert [(member["kind"], member["name"]) for member in members] == [
        ("Group", "/ml/team"),
        ("Group", "ada"),
        ("User", "admin"),
    ]
    assert ready.client.delete("/v1/projects/ours/members/ada").status_code == 404
    assert ready.client.delete("/v1/projects/ours/groups/ada").status_code == 200
    assert ready.client.delete("/v1/projects/ours/groups//ml/team").status_code == 200


def test_a_project_keeps_an_admin(ready: ControlPlaneHarness) -> None:
    last = ready.client.delete("/v1/projects/ours/members/admin")
    assert (last.status_code, last.json()["detail"]) == (409, "admin is the last admin")
    ready.client.put("/v1/projects/ours/groups/leads", json={"role": "admin"})
    assert ready.client.delete("/v1/projects/ours/members/admin").status_code == 200
    assert ready.client.put("/v1/projects/ours/groups/leads", json={"role": "viewer"}).status_code == 409
