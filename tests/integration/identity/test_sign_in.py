"""Sign-in of browsers, the command line and machines at a real OpenID Connect provider."""

from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from tests.factories.oidc_provider import (
    AUDIENCE,
    CLIENT,
    DEVICE_CLIENT,
    MACHINE,
    OidcServer,
    oidc_server,
    query_of,
)
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.errors import UnauthenticatedError
from windlass.identity.metadata import IssuerMetadata, provider_client
from windlass.identity.oidc import OidcClient, OidcProvider


@pytest.fixture(autouse=True)
def _now(harness: ControlPlaneHarness) -> None:
    """The provider issues tokens at the time of the machine."""
    harness.clock.at = datetime.now(UTC)


def browser_of(harness: ControlPlaneHarness) -> TestClient:
    return TestClient(harness.app, raise_server_exceptions=False, follow_redirects=False)


def sign_in(harness: ControlPlaneHarness, server: OidcServer, subject: str, return_to: str = "/") -> TestClient:
    """Sign a browser in; its requests have the CSRF token."""
    browser = browser_of(harness)
    begun = browser.get("/v1/auth/sign-in", params={"return_to": return_to})
    assert begun.status_code == 302
    back = server.sign_in(begun.headers["location"], subject)
    done = browser.get("/v1/auth/callback", params=query_of(back))
    assert (done.status_code, done.headers.get("location")) == (302, return_to), done.text
    browser.headers["X-CSRF-Token"] = browser.get("/v1/session").json()["csrf_token"]
    return browser


def test_a_browser_signs_in_and_out(harness: ControlPlaneHarness, server: OidcServer) -> None:
    server.set_claims("s-1", preferred_username="ada@example.org", name="Ada", groups=["ml"])
    browser = sign_in(harness, server, "s-1", "/jobs?state=queued")
    shown = browser.get("/v1/whoami").json()
    assert (shown["user"], shown["platform_role"], shown["projects"]) == ("ada@example.org", None, {})
    assert shown["key"] == browser.get("/v1/session").json()["id"]
    assert shown["project_permissions"] == {}
    [session] = browser.get("/v1/sessions").json()["items"]
    assert session["kind"] == "browser"
    cookie = next(iter(browser.cookies.jar))
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert browser.delete("/v1/session").status_code == 204
    browser.cookies.set("windlass-session", cookie.value or "")
    assert browser.get("/v1/whoami").status_code == 401


def test_roles_follow_the_groups_of_each_sign_in(harness: ControlPlaneHarness, server: OidcServer) -> None:
    harness.create_project("ours")
    harness.client.put("/v1/projects/ours/groups/ml", json={"role": "editor"})
    harness.client.put("/v1/projects/ours/groups/leads", json={"role": "admin"})
    server.set_claims("s-2", preferred_username="bob", groups=["ml", "leads"])
    browser = sign_in(harness, server, "s-2")
    assert browser.get("/v1/whoami").json()["projects"] == {"ours": "admin"}
    key = browser.post("/v1/keys", json={"user": "bob", "name": "laptop"}).json()["secret"]
    server.set_claims("s-2", preferred_username="bob", groups=["ml", "auditors"])
    again = sign_in(harness, server, "s-2")
    assert again.get("/v1/whoami").json()["projects"] == {"ours": "editor"}
    assert again.get("/v1/whoami").json()["platform_role"] == "platform-viewer"
    assert browser.get("/v1/whoami").json()["projects"] == {"ours": "editor"}, "older sessions too"
    with_key = harness.client_for_key(key).get("/v1/whoami").json()
    assert (with_key["projects"], with_key["platform_role"]) == ({"ours": "editor"}, None)
    server.set_claims("s-2", preferred_username="bob", groups=[])
    sign_in(harness, server, "s-2")
    assert harness.client_for_key(key).get("/v1/projects/ours").status_code == 404


def test_a_name_belongs_to_one_subject(harness: ControlPlaneHarness, server: OidcServer) -> None:
    server.set_claims("s-3", preferred_username="eve")
    sign_in(harness, server, "s-3")
    server.set_claims("s-3", preferred_username="eve-married")
    renamed = sign_in(harness, server, "s-3")
    assert renamed.get("/v1/whoami").json()["user"] == "eve", "the first name stays"
    server.set_claims("s-4", preferred_username="eve")
    for subject, name in (("s-4", "eve"), ("s-5", "admin"), ("s-6", "serviceaccount:ours:x"), ("s-7", "a b")):
        server.set_claims(subject, preferred_username=name)
        browser = browser_of(harness)
        begun = browser.get("/v1/auth/sign-in")
        done = browser.get("/v1/auth/callback", params=query_of(server.sign_in(begun.headers["location"], subject)))
        assert done.status_code == 401, name
        assert browser.get("/v1/whoami").status_code == 401


def test_another_browser_cannot_finish_a_sign_in(harness: ControlPlaneHarness, server: OidcServer) -> None:
    server.set_claims("s-8", preferred_username="kim")
    victim, attacker = browser_of(harness), browser_of(harness)
    begun = attacker.get("/v1/auth/sign-in")
    answer = query_of(server.sign_in(begun.headers["location"], "s-8"))
    assert victim.get("/v1/auth/callback", params=answer).status_code == 401
    victim.get("/v1/auth/sign-in")
    assert victim.get("/v1/auth/callback", params=answer).status_code == 401, "the state is of another sign-in"
    assert attacker.get("/v1/auth/callback", params={**answer, "code": "another"}).status_code == 401
    assert attacker.get("/v1/auth/callback", params={**answer, "iss": "https://evil.example"}).status_code == 401
    assert attacker.get("/v1/auth/callback", params={"state": answer["state"]}).status_code == 401
    denied = attacker.get("/v1/auth/callback", params={"state": answer["state"], "error": "access_denied"})
    assert "access_denied" in denied.json()["detail"]
    harness.clock.advance(601)
    assert attacker.get("/v1/auth/callback", params=answer).status_code == 401, "it took too long"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "jobs", "/a b"])
def test_a_sign_in_ends_on_this_server(harness: ControlPlaneHarness, server: OidcServer, target: str) -> None:
    server.set_claims("s-9", preferred_username="lee")
    browser = browser_of(harness)
    begun = browser.get("/v1/auth/sign-in", params={"return_to": target})
    done = browser.get("/v1/auth/callback", params=query_of(server.sign_in(begun.headers["location"], "s-9")))
    assert done.headers["location"] == "/"


def test_the_command_line_signs_in_by_the_device_flow(harness: ControlPlaneHarness, server: OidcServer) -> None:
    server.set_claims("s-10", preferred_username="joe", groups=["platform-team"])
    device = harness.client.get("/v1/auth").json()["device"]
    form = {"client_id": device["client_id"], "scope": device["scope"]}
    begun = httpx2.post(device["device_authorization_endpoint"], data=form).json()
    server.approve_device(begun["verification_uri_complete"], "s-10")
    poll = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": begun["device_code"],
        "client_id": DEVICE_CLIENT,
    }
    id_token = httpx2.post(device["token_endpoint"], data=poll).json()["id_token"]
    anyone = browser_of(harness)
    reply = anyone.post("/v1/auth/cli-sessions", json={"id_token": id_token})
    assert (reply.status_code, reply.json()["kind"]) == (201, "cli"), reply.text
    client = harness.client_for_key(reply.json()["secret"])
    assert client.get("/v1/whoami").json()["platform_role"] == "platform-admin"
    assert anyone.get("/v1/whoami", headers={"Authorization": f"Bearer {id_token}"}).status_code == 401
    anyone.cookies.set("windlass-session", reply.json()["secret"])
    assert anyone.get("/v1/whoami").status_code == 401, "a session of the CLI is no cookie"
    harness.clock.advance(12 * 3600)
    assert client.get("/v1/whoami").status_code == 401


def test_a_machine_sends_access_tokens(harness: ControlPlaneHarness, server: OidcServer) -> None:
    harness.create_project("ours")
    harness.client.put("/v1/projects/ours/groups/machines", json={"role": "editor"})
    server.set_claims("nightly", groups=["machines"])
    client = harness.client_for_key(server.access_token())
    shown = client.get("/v1/whoami").json()
    assert (shown["user"], shown["platform_role"], shown["key"]) == ("nightly", None, "token")
    assert shown["projects"] == {"ours": "editor"}
    assert "jobs:write" in shown["project_permissions"]["ours"]
    assert client.get("/v1/session").status_code == 404
    assert harness.client_for_key(server.access_token("another-api")).get("/v1/whoami").status_code == 401
    server.set_claims("nightly", groups=[])
    assert harness.client_for_key(server.access_token()).get("/v1/projects/ours").status_code == 404


def test_a_disabled_user_is_refused_everywhere(harness: ControlPlaneHarness, server: OidcServer) -> None:
    server.set_claims("s-11", preferred_username="mal", groups=["platform-team"])
    browser = sign_in(harness, server, "s-11")
    key = harness.client_for_key(browser.post("/v1/keys", json={"user": "mal"}).json()["secret"])
    assert browser.post("/v1/users/mal:disable").status_code == 409, "nobody disables themselves"
    assert harness.client.post("/v1/users/mal:disable").json()["disabled_at"] is not None
    assert [browser.get("/v1/whoami").status_code, key.get("/v1/whoami").status_code] == [401, 401]
    begun = browser_of(harness).get("/v1/auth/sign-in")
    assert begun.status_code == 302
    assert harness.client.post("/v1/users/mal:enable").json()["disabled_at"] is None
    assert [browser.get("/v1/whoami").status_code, key.get("/v1/whoami").status_code] == [401, 200]
    assert [user["name"] for user in harness.client.get("/v1/users").json()["items"]] == ["mal"]


def test_new_keys_of_the_provider_are_read_when_they_are_used(tmp_path: Path) -> None:
    """A provider rotates its keys. The test's clock advances past the least age of the keys."""
    seconds = [0.0]
    with oidc_server(tmp_path) as first, provider_client(first.issuer) as http:
        client = OidcClient(issuer=first.issuer, client_id=CLIENT, audience=AUDIENCE)
        provider = OidcProvider(client, IssuerMetadata(first.issuer, http, monotonic=lambda: seconds[0]))
        old = first.access_token()
        assert provider.verify_access_token(old).name == MACHINE
        first.restart()
        new = first.access_token()
        with pytest.raises(UnauthenticatedError, match="its key is unknown"):
            provider.verify_access_token(new)
        seconds[0] += 31
        assert provider.verify_access_token(new).name == MACHINE
        with pytest.raises(UnauthenticatedError, match="its key is unknown"):
            provider.verify_access_token(old)
