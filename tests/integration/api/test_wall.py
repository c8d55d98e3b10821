"""Deny by default: every route, every method, anonymous, foreign and low-ranked callers."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from tests.fakes.house import House

from windlass.domain.projects import Permission
from windlass_api.authn import PUBLIC
from windlass_api.dependencies import Needs
from windlass_api.routers import health, internal
from windlass_api.routers.v1 import datasets, endpoints, jobs, models, platform, projects

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def walk(house: House) -> Iterator[tuple[str, str]]:
    """Yield every path and method that the application describes, and every internal one."""
    for path, operations in house.app.openapi()["paths"].items():
        for method in operations:
            yield path, method.upper()
    for route in internal.router.routes:
        assert isinstance(route, APIRoute)
        for method in route.methods or ():
            yield route.path, method


def filled(path: str) -> str:
    """Return a path with something in place of each parameter."""
    values = {"project": "ours", "run": "run_01m810c6xggwmq6ybzy8jrqebf", "number": "1", "name": "x", "path:path": "x"}
    for part in path.split("{")[1:]:
        name = part.partition("}")[0]
        path = path.replace("{" + name + "}", values.get(name, "x"))
    return path


def test_nobody_anonymous_gets_beyond_the_wall(house: House) -> None:
    anonymous = house.client_with("")
    anonymous.headers.pop("Authorization")
    refused = 0
    paths = {filled(path) for path, _ in walk(house)} | {"/", "/docs", "/no/such/path", "/v1/projects/../pools"}
    for path in paths:
        for method in METHODS:
            reply = anonymous.request(method, path)
            if path in PUBLIC:
                continue
            assert reply.status_code == 401, (method, path, reply.status_code)
            assert reply.headers["www-authenticate"] == "Bearer"
            refused += 1
    assert refused > 300


@pytest.mark.parametrize(
    "token",
    ["", "wlk_", "wlk__", "wlk_x_y", "wlk_01m810c6xggwmq6ybzy8jrqebf_wrong", "wlr_" + "0" * 64, "x" * 5000, "\x7f"],
)
def test_a_key_that_is_not_ours_is_refused_alike(house: House, token: str) -> None:
    reply = house.client_with(token).get("/v1/whoami")
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")


def test_every_route_declares_its_permission(house: House) -> None:
    without = []
    for path, method in walk(house):
        if path in PUBLIC or path.startswith("/internal/"):
            continue
        route = next(r for r in _flat(house) if _shown(r) == path and method in (r.methods or ()))
        if not list(_needs(route.dependant)):
            without.append((method, path))
    assert without == []


def _shown(route: APIRoute) -> str:
    """Return a route's path as the OpenAPI document writes it: without converters."""
    return route.path.replace(":path}", "}")


def _flat(house: House) -> list[APIRoute]:
    modules = (health, platform, projects, datasets, jobs, models, endpoints)
    found = [route for module in modules for route in module.router.routes if isinstance(route, APIRoute)]
    described = {(path, method) for path, method in walk(house) if not path.startswith("/internal/")}
    assert {(_shown(route), method) for route in found for method in route.methods or ()} == described
    return found


def _needs(dependant: Dependant) -> Iterator[Needs]:
    for one in dependant.dependencies:
        if isinstance(one.call, Needs):
            yield one.call
        yield from _needs(one)


def test_a_stranger_sees_no_project_that_is_not_theirs(ready: House) -> None:
    stranger = ready.client_of("stranger")
    for path, method in walk(ready):
        if "{project}" not in path:
            continue
        reply = stranger.request(method, filled(path), headers={"If-Match": '"1"', "Idempotency-Key": "k"})
        assert reply.status_code in (404, 422, 400), (method, path, reply.status_code)
        if reply.status_code == 404:
            assert reply.json()["detail"] == "no project ours"


def test_a_viewer_may_read_and_nothing_else(ready: House) -> None:
    viewer = ready.client_of("eve")
    assert ready.client.put("/v1/projects/ours/members/eve", json={"role": "viewer"}).status_code == 200
    assert viewer.get("/v1/projects/ours/jobs").status_code == 200
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    reply = viewer.post("/v1/projects/ours/jobs", json={"spec": spec}, headers={"Idempotency-Key": "k"})
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert viewer.get("/v1/keys").status_code == 403
    assert viewer.get("/v1/audit").status_code == 403
    assert viewer.put("/v1/projects/ours/quotas/local", json={"nominal": 99}).status_code == 403


def test_an_editor_may_not_change_quotas_or_members(ready: House) -> None:
    ready.client.put("/v1/projects/ours/members/ed", json={"role": "editor"})
    editor = ready.client_of("ed")
    ready.submit("ours", key="by-editor", client=editor)
    assert editor.put("/v1/projects/ours/members/ed", json={"role": "owner"}).status_code == 403
    assert editor.delete("/v1/projects/ours/quotas/local").status_code == 403


def test_a_key_confined_to_a_project_enters_no_other(ready: House) -> None:
    ready.project("theirs", pool="other")
    for name in ("ours", "theirs"):
        ready.client.put(f"/v1/projects/{name}/members/bob", json={"role": "owner"})
    confined = ready.client_of("bob", project="ours")
    assert confined.get("/v1/projects/ours").status_code == 200
    assert confined.get("/v1/projects/theirs").status_code == 404
    assert [p["name"] for p in confined.get("/v1/projects").json()["items"]] == ["ours"]


def test_a_revoked_key_is_dead(house: House) -> None:
    made = house.client.post("/v1/keys", json={"user": "carol"}).json()
    carol = house.client_with(made["secret"])
    assert carol.get("/v1/whoami").json()["user"] == "carol"
    assert house.client.delete(f"/v1/keys/{made['id']}").status_code == 204
    assert carol.get("/v1/whoami").status_code == 401


def test_a_secret_is_stored_nowhere(house: House) -> None:
    made = house.client.post("/v1/keys", json={"user": "carol"}).json()
    secret = made["secret"].rpartition("_")[2]
    for file in house.home.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file


def test_a_run_token_opens_its_own_run_alone(ready: House) -> None:
    first, second = ready.submit("ours", key="1"), ready.submit("ours", key="2")
    ready.project("more", gpus=3, pool="local")
    ready.client.put("/v1/projects/ours/quotas/local", json={"nominal": 4})
    ready.turn(2)
    one, other = ready.run_of(first), ready.run_of(second)
    assert one.claim().status_code == 200
    assert one.client.get(f"/internal/v1/runs/{other.run}").status_code == 401
    assert one.client.get("/v1/whoami").status_code == 401
    assert ready.client.get(f"/internal/v1/runs/{one.run}").status_code == 401


def test_an_api_key_finds_no_run(house: House) -> None:
    for path in ("/internal/v1/runs/x", "/internal/v1/runs/x/attempts:claim"):
        reply = house.client.request("POST" if path.endswith("claim") else "GET", path, json={"trainer": "t"})
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_a_body_over_the_limit_is_refused_before_it_is_read(house: House) -> None:
    reply = house.client.post("/v1/projects", content=b"x" * (3 << 20))
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_a_streamed_body_over_the_limit_is_refused(house: House) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    reply = house.client.post("/v1/projects", content=pieces())
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"name": NaN}', b"\xff\xfe"])
def test_what_is_no_json_is_refused_cleanly(house: House, body: bytes) -> None:
    reply = house.client.post("/v1/projects", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422)
    assert reply.json()["code"] in ("bad_request", "invalid")


def test_every_permission_is_needed_somewhere(house: House) -> None:
    used: set[Any] = {need.permission for route in _flat(house) for need in _needs(route.dependant)}
    assert set(Permission) - used == set()
