"""Authentication and authorization of every route: deny by default."""

from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute
from tests.factories.api_operations import operations
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.projects import Permission
from windlass_api.authn import PUBLIC
from windlass_api.routers import internal

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def iter_operations(harness: ControlPlaneHarness) -> Iterator[tuple[str, str]]:
    """Yield path and method of every public and internal route."""
    for operation in operations(harness.app):
        yield operation.path, operation.method
    for route in internal.router.routes:
        assert isinstance(route, APIRoute)
        for method in route.methods or ():
            yield route.path, method


def fill_path(path: str) -> str:
    """Return a path with its parameters replaced by values."""
    values = {"project": "ours", "run": "run_01m810c6xggwmq6ybzy8jrqebf", "number": "1", "name": "x", "path:path": "x"}
    for part in path.split("{")[1:]:
        name = part.partition("}")[0]
        path = path.replace("{" + name + "}", values.get(name, "x"))
    return path


def test_anonymous_requests_are_rejected_on_all_paths(harness: ControlPlaneHarness) -> None:
    anonymous = harness.client_for_key("")
    anonymous.headers.pop("Authorization")
    rejected = 0
    paths = {fill_path(path) for path, _ in iter_operations(harness)} | {
        "/",
        "/docs",
        "/no/such/path",
        "/v1/projects/../pools",
    }
    for path in paths:
        for method in METHODS:
            reply = anonymous.request(method, path)
            if path in PUBLIC:
                continue
            assert reply.status_code == 401, (method, path, reply.status_code)
            assert reply.headers["www-authenticate"] == "Bearer"
            rejected += 1
    assert rejected > 300


@pytest.mark.parametrize(
    "token",
    ["", "wlk_", "wlk__", "wlk_x_y", "wlk_01m810c6xggwmq6ybzy8jrqebf_wrong", "wlr_" + "0" * 64, "x" * 5000, "\x7f"],
)
def test_invalid_keys_are_rejected(harness: ControlPlaneHarness, token: str) -> None:
    reply = harness.client_for_key(token).get("/v1/whoami")
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")


def test_editor_cannot_change_quotas_or_members(ready: ControlPlaneHarness) -> None:
    ready.client.put("/v1/projects/ours/members/ed", json={"role": "editor"})
    editor = ready.client_for_user("ed")
    ready.submit("ours", key="by-editor", client=editor)
    assert editor.put("/v1/projects/ours/members/ed", json={"role": "admin"}).status_code == 403
    assert editor.delete("/v1/projects/ours/quotas/local").status_code == 403


def test_revoked_key_is_rejected(harness: ControlPlaneHarness) -> None:
    made = harness.client.post("/v1/keys", json={"user": "carol"}).json()
    carol = harness.client_for_key(made["secret"])
    assert carol.get("/v1/whoami").json()["user"] == "carol"
    assert harness.client.delete(f"/v1/keys/{made['id']}").status_code == 200
    assert carol.get("/v1/whoami").status_code == 401


def test_the_key_in_use_and_the_last_admin_key_are_revoked_by_force_only(harness: ControlPlaneHarness) -> None:
    mine = harness.client.get("/v1/whoami").json()["key"]
    other = harness.client.post("/v1/keys", json={"user": "ada", "platform_role": "platform-admin"}).json()
    reply = harness.client.delete(f"/v1/keys/{mine}")
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    ada = harness.client_for_key(other["secret"])
    assert ada.delete(f"/v1/keys/{mine}").status_code == 200
    expired = ada.post("/v1/keys", json={"user": "bob", "platform_role": "platform-admin", "expires_in_days": 1}).json()
    bob = harness.client_for_key(expired["secret"])
    assert bob.delete(f"/v1/keys/{other['id']}").status_code == 200
    assert bob.delete(f"/v1/keys/{expired['id']}").status_code == 409
    assert bob.delete(f"/v1/keys/{expired['id']}", params={"force": "true"}).status_code == 200
    assert bob.get("/v1/whoami").status_code == 401


def test_secrets_are_not_stored(harness: ControlPlaneHarness) -> None:
    made = harness.client.post("/v1/keys", json={"user": "carol"}).json()
    secret = made["secret"].rpartition("_")[2]
    for file in harness.home.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file


def test_run_token_is_valid_for_its_own_run_only(ready: ControlPlaneHarness) -> None:
    first, second = ready.submit("ours", key="1"), ready.submit("ours", key="2")
    ready.create_project("more", gpus=3, pool="local")
    ready.client.put("/v1/projects/ours/quotas/local", json={"nominal": 4})
    ready.run_worker_once(2)
    first_run, second_run = ready.simulated_run(first), ready.simulated_run(second)
    assert first_run.acquire_attempt().status_code == 200
    assert first_run.client.get(f"/internal/v1/runs/{second_run.run}").status_code == 401
    assert first_run.client.get("/v1/whoami").status_code == 401
    assert ready.client.get(f"/internal/v1/runs/{first_run.run}").status_code == 401


def test_api_key_cannot_access_internal_routes(harness: ControlPlaneHarness) -> None:
    for path in ("/internal/v1/runs/x", "/internal/v1/runs/x/attempts:acquire"):
        reply = harness.client.request("POST" if path.endswith("acquire") else "GET", path, json={"trainer": "t"})
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_body_over_the_limit_is_rejected_by_content_length(harness: ControlPlaneHarness) -> None:
    reply = harness.client.post("/v1/projects", content=b"x" * (3 << 20))
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_streamed_body_over_the_limit_is_rejected(harness: ControlPlaneHarness) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    reply = harness.client.post("/v1/projects", content=chunks())
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"name": NaN}', b"\xff\xfe"])
def test_malformed_json_is_rejected(harness: ControlPlaneHarness, body: bytes) -> None:
    reply = harness.client.post("/v1/projects", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422)
    assert reply.json()["code"] in ("bad_request", "invalid")


def test_every_permission_is_used_by_a_route(harness: ControlPlaneHarness) -> None:
    used = {permission for operation in operations(harness.app) for permission in operation.permissions}
    # ``Keys`` decides by it whose keys a caller manages
    assert set(Permission) - used == {Permission.KEYS_WRITE}
