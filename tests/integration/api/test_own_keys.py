"""Keys of one's own: list, renew, revoke; no key gives access to keys with more rights."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ControlPlaneHarness

from windlass.settings import LimitSettings


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


def test_keys_that_ended_a_year_ago_are_deleted_and_stay_in_the_audit_log(ready: ControlPlaneHarness) -> None:
    expiring, revoked = make_key(ready, "ada", expires_in_days=1), make_key(ready, "ada", name="laptop")
    admin = make_key(ready, "root", platform_role="platform-admin")
    valid = make_key(ready, "ada", expires_in_days=3000)
    for key in (revoked, admin):
        assert ready.client.delete(f"/v1/keys/{key['id']}").status_code == 200
    ready.clock.advance(364 * 24 * 3600)
    ready.delete_expired()
    assert {expiring["id"], revoked["id"], admin["id"], valid["id"]} <= listed(ready.client)
    ready.clock.advance(3 * 24 * 3600)
    ready.delete_expired()
    left = listed(ready.client)
    assert not left & {expiring["id"], revoked["id"]}
    assert {admin["id"], valid["id"]} <= left, "a key of the settings that was revoked must not be created again"
    rows = ready.client.get("/v1/audit", params={"action": "key.create"}).json()["items"]
    assert {expiring["id"], revoked["id"]} <= {row["subject"] for row in rows}


def test_keys_that_are_created_and_revoked_in_a_loop_stay_few(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path, limits=LimitSettings(key_cache_seconds=0, max_keys_per_user=3))
    lasting, created = make_key(harness, "ada"), []
    for _ in range(8):
        harness.clock.advance(1)
        created.append(make_key(harness, "ada"))
        assert harness.client.delete(f"/v1/keys/{created[-1]['id']}").status_code == 200
    newest = make_key(harness, "ada")
    with harness.database.read() as uow:
        stored = {key.id for key in uow.keys.all({"user": "ada"})}
    assert stored == {lasting["id"], newest["id"], *(key["id"] for key in created[-3:])}
    assert works(harness, lasting)
    harness.close()
