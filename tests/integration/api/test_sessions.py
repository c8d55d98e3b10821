"""Sessions of browsers that an API key opens."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.services.keys import Keys
from windlass.services.sign_in import SignInPolicy
from windlass.settings import LimitSettings


def key_of(harness: ControlPlaneHarness, user: str = "ada", **more: object) -> str:
    return Keys(harness.deps, ADMIN).create(user, **more)[1]  # type: ignore[arg-type]  # the arguments of `create`


def signed_in(harness: ControlPlaneHarness, key: str) -> TestClient:
    browser = TestClient(harness.app, raise_server_exceptions=False)
    reply = browser.post("/v1/auth/browser-sessions", json={"key": key})
    assert reply.status_code == 201, reply.text
    assert "secret" not in reply.json()
    browser.headers["X-CSRF-Token"] = reply.json()["csrf_token"]
    return browser


def test_a_browser_has_the_rights_of_the_key(ready: ControlPlaneHarness) -> None:
    ready.client.put("/v1/projects/ours/members/ada", json={"role": "editor"})
    browser = signed_in(ready, key_of(ready))
    assert browser.get("/v1/whoami").json()["projects"] == {"ours": "editor"}
    created = browser.post("/v1/projects/ours/datasets", json={"name": "mine", "task": "chat"})
    assert created.status_code == 201
    assert browser.get("/v1/keys").status_code == 200
    assert browser.get("/v1/users").status_code == 403


def test_it_ends_with_the_key(ready: ControlPlaneHarness) -> None:
    key = key_of(ready)
    browser, short = signed_in(ready, key), signed_in(ready, key_of(ready, "bob", days=1))
    ready.client.delete(f"/v1/keys/key_{key.split('_')[1]}")
    assert browser.get("/v1/whoami").status_code == 401
    assert short.get("/v1/whoami").status_code == 200
    ready.clock.advance(12 * 3600)
    assert short.get("/v1/whoami").status_code == 401
    late = signed_in(ready, key_of(ready, "bob", days=1))
    ready.clock.advance(3600)
    assert late.get("/v1/session").json()["kind"] == "browser"


def test_a_session_creates_no_key_that_outlives_its_own(ready: ControlPlaneHarness) -> None:
    short, lasting = signed_in(ready, key_of(ready, days=1)), signed_in(ready, key_of(ready))
    assert short.post("/v1/keys", json={"user": "ada"}).status_code == 403
    assert short.post("/v1/keys", json={"user": "ada", "expires_in_days": 2}).status_code == 403
    assert short.post("/v1/keys", json={"user": "ada", "expires_in_days": 1}).status_code == 201
    assert lasting.post("/v1/keys", json={"user": "ada"}).status_code == 201


def test_a_wrong_key_opens_no_session(ready: ControlPlaneHarness) -> None:
    browser = TestClient(ready.app, raise_server_exceptions=False)
    key = key_of(ready)
    for wrong in (key + "x", key.replace("wlk", "wls"), "wlk_", "a.b.c", key[:-1]):
        assert browser.post("/v1/auth/browser-sessions", json={"key": wrong}).status_code == 401
    assert not browser.cookies


@pytest.mark.parametrize("token", [None, "", "0" * 64, "of another session"])
def test_another_site_changes_nothing(ready: ControlPlaneHarness, token: str | None) -> None:
    """A page of another site makes the browser send the cookie, but cannot read the CSRF token."""
    browser, other = signed_in(ready, key_of(ready)), signed_in(ready, key_of(ready, "bob"))
    del browser.headers["X-CSRF-Token"]
    if token is not None:
        browser.headers["X-CSRF-Token"] = other.headers["X-CSRF-Token"] if "another" in token else token
    for reply in (
        browser.delete("/v1/session"),
        browser.post("/v1/keys", json={"user": "ada"}),
        browser.put("/v1/projects/ours/members/ada", json={"role": "admin"}),
        browser.patch("/v1/projects/ours", json={}),
    ):
        assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert browser.get("/v1/whoami").status_code == 200


def test_a_request_from_another_origin_changes_nothing(ready: ControlPlaneHarness) -> None:
    browser = signed_in(ready, key_of(ready))
    for origin in ("https://evil.example", "null", "http://testserver.evil.example", "http://testserver:81"):
        assert browser.post("/v1/keys", json={"user": "ada"}, headers={"Origin": origin}).status_code == 403
    assert browser.post("/v1/keys", json={"user": "ada"}, headers={"Origin": "http://testserver"}).status_code == 201


def test_a_cookie_is_no_bearer_token(ready: ControlPlaneHarness) -> None:
    browser = signed_in(ready, key_of(ready))
    token = browser.cookies["windlass-session"]
    assert ready.client_for_key(token).get("/v1/whoami").status_code == 401
    unknown = TestClient(ready.app, cookies={"windlass-session": token[:-2] + "xx"}, raise_server_exceptions=False)
    assert unknown.get("/v1/whoami").status_code == 401


def test_own_sessions_are_listed_and_ended(ready: ControlPlaneHarness) -> None:
    key = key_of(ready)
    here, lost, other = signed_in(ready, key), signed_in(ready, key), signed_in(ready, key_of(ready, "bob"))
    sessions = here.get("/v1/sessions").json()["items"]
    assert len(sessions) == 2
    lost_id = lost.get("/v1/session").json()["id"]
    assert other.delete(f"/v1/sessions/{lost_id}").status_code == 404
    assert here.delete(f"/v1/sessions/{lost_id}").status_code == 204
    assert here.delete(f"/v1/sessions/{lost_id}").status_code == 204
    assert [lost.get("/v1/whoami").status_code, here.get("/v1/whoami").status_code] == [401, 200]
    actions = [row["action"] for row in ready.client.get("/v1/audit", params={"actor": "ada"}).json()["items"]]
    assert actions == ["session.end", "session.create", "session.create"]


def test_without_a_provider_there_are_only_keys(ready: ControlPlaneHarness) -> None:
    assert ready.client.get("/v1/auth").json() == {"sign_in_path": None, "device": None}
    browser = TestClient(ready.app, raise_server_exceptions=False, follow_redirects=False)
    assert browser.get("/v1/auth/sign-in").status_code == 404
    assert browser.get("/v1/auth/callback", params={"state": "x", "code": "y"}).status_code == 401
    assert browser.post("/v1/auth/cli-sessions", json={"id_token": "a.b.c"}).status_code == 404
    assert ready.client_for_key("a.b.c").get("/v1/whoami").status_code == 401


def test_rows_of_old_sessions_are_deleted(ready: ControlPlaneHarness) -> None:
    signed_in(ready, key_of(ready))
    ready.clock.advance(29 * 24 * 3600)
    browser = signed_in(ready, key_of(ready))
    ready.delete_expired()
    with ready.database.read() as uow:
        assert uow.sessions.count() == 2
    ready.clock.advance(2 * 24 * 3600)
    ready.delete_expired()
    with ready.database.read() as uow:
        assert uow.sessions.count() == 1
    assert browser.get("/v1/whoami").status_code == 401


def test_a_session_beyond_the_limit_ends_the_oldest_one(tmp_path: Path) -> None:
    limits = LimitSettings(key_cache_seconds=0, max_sessions_per_user=3)
    harness = ControlPlaneHarness(tmp_path, limits=limits)
    harness.create_project("ours")
    key, other = key_of(harness), signed_in(harness, key_of(harness, "bob"))
    browsers = []
    for _ in range(4):
        harness.clock.advance(1)
        browsers.append(signed_in(harness, key))
    status = [browser.get("/v1/whoami").status_code for browser in (*browsers, other)]
    assert status == [401, 200, 200, 200, 200]
    [entry] = harness.client.get("/v1/audit", params={"action": "session.end"}).json()["items"]
    assert (entry["actor"], entry["name"]) == ("system", "ada")
    assert browsers[3].delete("/v1/session").status_code == 204
    newest = signed_in(harness, key)
    assert browsers[1].get("/v1/whoami").status_code == 200, "one that has ended makes room first"
    assert newest.get("/v1/whoami").status_code == 200
    assert len(harness.client.get("/v1/audit", params={"action": "session.end"}).json()["items"]) == 2
    with harness.database.read() as uow:
        assert uow.sessions.count({"user": "ada"}) == 3
    harness.close()


def test_with_https_the_cookie_is_for_this_host_and_https_only(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path, sign_in=SignInPolicy(secure_cookies=True))
    browser = TestClient(harness.app, base_url="https://testserver", raise_server_exceptions=False)
    reply = browser.post("/v1/auth/browser-sessions", json={"key": key_of(harness)})
    name, *attributes = reply.headers["set-cookie"].split("; ")
    assert name.startswith("__Host-windlass-session=wls_")
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(attributes)
    assert browser.get("/v1/whoami").status_code == 200
    harness.close()


def test_a_link_of_a_key_signs_one_browser_in_within_a_minute(ready: ControlPlaneHarness) -> None:
    ready.client.put("/v1/projects/ours/members/ada", json={"role": "editor"})
    client = ready.client_for_key(key_of(ready))

    def new_code() -> str:
        link = client.post("/v1/auth/links").json()
        path, _, code = link["path"].partition("#code=")
        assert path == "/sign-in"
        return str(code)

    code = new_code()
    browser = TestClient(ready.app)
    assert browser.post("/v1/auth/link-sessions", json={"code": code}).status_code == 201
    assert browser.get("/v1/whoami").json()["projects"] == {"ours": "editor"}
    assert TestClient(ready.app).post("/v1/auth/link-sessions", json={"code": code}).status_code == 401
    late = new_code()
    ready.clock.advance(61)
    assert TestClient(ready.app).post("/v1/auth/link-sessions", json={"code": late}).status_code == 401
    sessions = browser.get("/v1/sessions").json()["items"]
    assert [each["kind"] for each in sessions] == ["browser"]
    ready.clock.advance(11 * 3600)
    assert browser.get("/v1/session").status_code == 200, "the session lasts as long as any other"


def test_the_code_of_a_link_is_no_credential(ready: ControlPlaneHarness) -> None:
    code = ready.client.post("/v1/auth/links").json()["path"].partition("=")[2]
    assert ready.client_for_key(code).get("/v1/whoami").status_code == 401
    browser = TestClient(ready.app, cookies={"windlass-session": code})
    assert browser.get("/v1/whoami").status_code == 401
    for wrong in (code[:-1], code + "x", "wls_", key_of(ready)):
        assert browser.post("/v1/auth/link-sessions", json={"code": wrong}).status_code == 401


def test_a_session_creates_no_link(ready: ControlPlaneHarness) -> None:
    reply = signed_in(ready, key_of(ready)).post("/v1/auth/links")
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
