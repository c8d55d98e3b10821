"""Service accounts: a role in one project, keys with scopes, and nothing else."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ControlPlaneHarness

ACCOUNTS = "/v1/projects/ours/service-accounts"


def admin_of(harness: ControlPlaneHarness, project: str = "ours") -> TestClient:
    harness.client.put(f"/v1/projects/{project}/members/ada", json={"role": "admin"})
    return harness.client_for_user("ada")


def new_key(client: TestClient, account: str = "nightly", **more: Any) -> dict[str, Any]:
    reply = client.post(f"{ACCOUNTS}/{account}/keys", json=more)
    assert reply.status_code == 201, reply.text
    key: dict[str, Any] = reply.json()
    return key


@pytest.fixture
def admin(ready: ControlPlaneHarness) -> TestClient:
    """A project admin, without a platform role, and the account ``nightly`` with the role editor."""
    client = admin_of(ready)
    body = {"name": "nightly", "role": "editor", "description": "Trains every night"}
    reply = client.post(ACCOUNTS, json=body)
    assert (reply.status_code, reply.json()["user"]) == (201, "serviceaccount:ours:nightly"), reply.text
    return client


def test_an_account_acts_in_its_project_only(ready: ControlPlaneHarness, admin: TestClient) -> None:
    ready.create_project("theirs", pool="other")
    ready.client.put("/v1/projects/theirs/members/nightly", json={"role": "admin"})
    program = ready.client_for_key(new_key(admin)["secret"])
    job = ready.submit("ours", key="one", client=program)
    assert job["created_by"] == "serviceaccount:ours:nightly"
    assert program.get("/v1/whoami").json()["projects"] == {"ours": "editor"}
    assert program.get("/v1/projects/theirs").status_code == 404
    assert program.put("/v1/projects/ours/members/eve", json={"role": "admin"}).status_code == 403
    assert program.post("/v1/keys", json={"user": "serviceaccount:ours:nightly"}).status_code == 422
    assert program.post(f"{ACCOUNTS}/nightly/keys", json={}).status_code == 403
    assert [project["name"] for project in program.get("/v1/projects").json()["items"]] == ["ours"]


def test_a_changed_role_counts_for_all_keys(ready: ControlPlaneHarness, admin: TestClient) -> None:
    program = ready.client_for_key(new_key(admin)["secret"])
    assert program.post("/v1/projects/ours/datasets", json={"name": "a", "task": "chat"}).status_code == 201
    assert admin.patch(f"{ACCOUNTS}/nightly", json={"role": "viewer"}).json()["role"] == "viewer"
    assert program.post("/v1/projects/ours/datasets", json={"name": "b", "task": "chat"}).status_code == 403
    assert program.get("/v1/projects/ours/datasets").status_code == 200


def test_a_key_has_its_permissions_only(ready: ControlPlaneHarness, admin: TestClient) -> None:
    key = new_key(admin, permissions=["jobs:read", "datasets:read"], name="reader")
    assert key["permissions"] == ["datasets:read", "jobs:read"]
    program = ready.client_for_key(key["secret"])
    assert program.get("/v1/projects/ours/jobs").status_code == 200
    assert program.get("/v1/projects/ours/models").status_code == 403
    assert program.post("/v1/projects/ours/datasets", json={"name": "a", "task": "chat"}).status_code == 403
    assert program.get("/v1/whoami").status_code == 403
    refused = admin.post(f"{ACCOUNTS}/nightly/keys", json={"permissions": ["jobs:everything"]})
    assert refused.status_code == 422


def test_keys_expire_and_are_renewed_and_revoked(ready: ControlPlaneHarness, admin: TestClient) -> None:
    key = new_key(admin, expires_in_days=30, permissions=["jobs:read"])
    renewed = admin.post(f"{ACCOUNTS}/nightly/keys/{key['id']}:renew").json()
    assert (renewed["permissions"], renewed["user"]) == (["jobs:read"], "serviceaccount:ours:nightly")
    program = ready.client_for_key(renewed["secret"])
    assert program.get("/v1/projects/ours/jobs").status_code == 200
    assert {each["id"] for each in admin.get(f"{ACCOUNTS}/nightly/keys").json()["items"]} == {key["id"], renewed["id"]}
    assert admin.delete(f"{ACCOUNTS}/nightly/keys/{renewed['id']}").status_code == 200
    assert program.get("/v1/projects/ours/jobs").status_code == 401
    ready.clock.advance(3601)
    assert ready.client_for_key(key["secret"]).get("/v1/projects/ours/jobs").status_code == 401


def test_only_its_own_keys_are_managed_by_an_account(ready: ControlPlaneHarness, admin: TestClient) -> None:
    admin.post(ACCOUNTS, json={"name": "other", "role": "viewer"})
    key, personal = new_key(admin), admin.post("/v1/keys", json={"user": "ada"}).json()
    for target in (key["id"], personal["id"]):
        assert admin.post(f"{ACCOUNTS}/other/keys/{target}:renew").status_code == 404
        assert admin.delete(f"{ACCOUNTS}/other/keys/{target}").status_code == 404
    assert admin.post(f"/v1/keys/{key['id']}:renew").status_code == 404, "it is no key of the admin"


def test_a_deleted_account_and_its_keys_are_gone(ready: ControlPlaneHarness, admin: TestClient) -> None:
    program = ready.client_for_key(new_key(admin)["secret"])
    preview = admin.delete(f"{ACCOUNTS}/nightly", params={"dry_run": "true"}).json()
    assert preview["contains"] == {"key": 1}
    assert program.get("/v1/projects/ours").status_code == 200
    assert admin.delete(f"{ACCOUNTS}/nightly").status_code == 200
    assert program.get("/v1/projects/ours").status_code == 401
    assert admin.get(ACCOUNTS).json()["items"] == []
    again = admin.post(ACCOUNTS, json={"name": "nightly", "role": "viewer"})
    assert again.status_code == 201
    assert program.get("/v1/projects/ours").status_code == 401, "a new account of the name is another one"


def test_accounts_are_for_admins_of_the_project(ready: ControlPlaneHarness, admin: TestClient) -> None:
    ready.client.put("/v1/projects/ours/members/ed", json={"role": "editor"})
    editor, stranger = ready.client_for_user("ed"), ready.client_for_user("eve")
    assert [account["name"] for account in editor.get(ACCOUNTS).json()["items"]] == ["nightly"]
    assert editor.post(ACCOUNTS, json={"name": "x", "role": "editor"}).status_code == 403
    assert editor.post(f"{ACCOUNTS}/nightly/keys", json={}).status_code == 403
    assert stranger.get(ACCOUNTS).status_code == 404
    assert admin.post(ACCOUNTS, json={"name": "nightly", "role": "viewer"}).status_code == 409


def test_a_project_that_is_deleted_takes_its_accounts_along(ready: ControlPlaneHarness, admin: TestClient) -> None:
    program = ready.client_for_key(new_key(admin)["secret"])
    etag = ready.client.get("/v1/projects/ours").headers["etag"]
    assert ready.client.delete("/v1/projects/ours", headers={"If-Match": etag}).status_code == 200
    ready.create_project("ours")
    assert program.get("/v1/projects/ours").status_code == 401
    ready.delete_expired()
