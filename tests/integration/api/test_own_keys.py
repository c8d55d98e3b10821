"""Keys of one's own: list, renew, revoke; no key gives access to keys with more rights."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ControlPlaneHarness


def make_key(harness: ControlPlaneHarness, user: str, **more: Any) -> dict[str, Any]:
    reply = harness.client.post("/v1/keys", json={"user": user, **more})
    assert reply.status_code == 201, reply.text
    key: dict[str, Any] = reply.json()
    return key


def listed(client: TestClient) -> set[str]:
    return {key["id"] for key in client.get("/v1/keys").json()["items"]}


def works(harness: ControlPlaneHarness, key: dict[str, Any]) -> bool:
    status: int = harness.client_for_key(key["secret"]).get("/v1/whoami").status_code
    return status == 200


def test_a_user_lists_and_revokes_own_keys_only(ready: ControlPlaneHarness) -> None:
    first, second = make_key(ready, "ada"), make_key(ready, "ada", name="laptop")
    other = make_key(ready, "bob")
    ada = ready.client_for_key(first["secret"])
    assert listed(ada) == {first["id"], second["id"]}
    assert ada.delete(f"/v1/keys/{other['id']}").status_code == 404
    assert ada.post(f"/v1/keys/{other['id']}:renew").status_code == 404
    assert works(ready, other)
    assert ada.delete(f"/v1/keys/{second['id']}").status_code == 200
    assert not works(ready, second)
    assert ada.delete(f"/v1/keys/{first['id']}").status_code == 409, "the key in use is revoked by force only"
    assert ada.post("/v1/keys", json={"user": "bob"}).status_code == 403
    assert ada.post("/v1/keys", json={"user": "ada", "platform_role": "platform-viewer"}).status_code == 403
    assert {first["id"], other["id"]} <= listed(ready.client), "an admin lists all keys"


def test_a_renewed_key_has_the_same_rights_and_lifetime_and_replaces_the_old_one(ready: ControlPlaneHarness) -> None:
    old = make_key(ready, "ada", name="laptop", project="ours", expires_in_days=30)
    ready.clock.advance(20 * 24 * 3600)
    ada = ready.client_for_key(old["secret"])
    reply = ada.post(f"/v1/keys/{old['id']}:renew")
    assert reply.status_code == 201
    new = reply.json()
    assert (new["user"], new["name"], new["platform_role"], new["project"]) == ("ada", "laptop", None, "ours")
    assert new["id"] != old["id"]
    assert works(ready, new)
    assert works(ready, old), "for an hour, in case the reply was lost"
    ready.clock.advance(3601)
    assert not works(ready, old)
    ready.clock.advance(29 * 24 * 3600)
    assert works(ready, new)
    ready.clock.advance(24 * 3600)
    assert not works(ready, new)
    rows = [row for row in ready.client.get("/v1/audit").json()["items"] if row["action"] == "key.renew"]
    assert [(row["actor"], row["subject"], row["name"]) for row in rows] == [("ada", new["id"], "ada (laptop)")]


@pytest.mark.parametrize("end", ["expired", "revoked"])
def test_a_key_that_is_not_valid_cannot_be_renewed(ready: ControlPlaneHarness, end: str) -> None:
    key = make_key(ready, "ada", expires_in_days=1)
    ada = ready.client_for_user("ada")
    if end == "expired":
        ready.clock.advance(25 * 3600)
    else:
        assert ada.delete(f"/v1/keys/{key['id']}").status_code == 200
    assert ada.post(f"/v1/keys/{key['id']}:renew").status_code == 409


def test_a_key_does_not_reach_keys_with_more_rights(ready: ControlPlaneHarness) -> None:
    ready.create_project("theirs")
    admin, plain = make_key(ready, "ada", platform_role="platform-admin"), make_key(ready, "ada")
    ours, theirs = make_key(ready, "ada", project="ours"), make_key(ready, "ada", project="theirs")
    reach = {key["id"]: listed(ready.client_for_key(key["secret"])) for key in (plain, ours)}
    assert reach[plain["id"]] == {plain["id"], ours["id"], theirs["id"]}
    assert reach[ours["id"]] == {ours["id"]}
    for weak, strong in ((plain, admin), (ours, plain), (ours, theirs), (ours, admin)):
        client = ready.client_for_key(weak["secret"])
        assert client.post(f"/v1/keys/{strong['id']}:renew").status_code == 404
        assert client.delete(f"/v1/keys/{strong['id']}", params={"force": "true"}).status_code == 404
        assert works(ready, strong)


def test_the_audit_log_is_filtered_by_project_name_actor_and_action(ready: ControlPlaneHarness) -> None:
    make_key(ready, "ada")
    ready.client.put("/v1/projects/ours/members/ada", json={"role": "admin"})
    ada = ready.client_for_user("ada")
    ada.put("/v1/projects/ours/members/bob", json={"role": "viewer"})
    uid = ready.client.get("/v1/projects/ours").json()["uid"]

    def actions(**where: str) -> list[str]:
        return [row["action"] for row in ready.client.get("/v1/audit", params=where).json()["items"]]

    assert actions(actor="ada") == ["member.put"]
    assert actions(action="key.create", actor="admin") != []
    assert set(actions(action="key.create")) == {"key.create"}
    assert actions(project="ours") == actions(project=uid)
    assert "member.put" in actions(project="ours")
    assert "key.create" not in actions(project="ours")
    assert actions(project="nowhere") == []
