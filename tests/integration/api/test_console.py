"""The files of the console: who gets which, and with which headers. The page itself: tests/integration/browser."""

import gzip
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ControlPlaneHarness

from windlass_api.app import INTERNAL_ROUTERS, create_app
from windlass_api.console import ConsoleMiddleware, read_console

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
SCRIPT = "let text = 'a script';" * 100


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text('<meta content="__STYLE_NONCE__"><script src="/assets/a-1.js"></script>')
    (folder / "icon.svg").write_text("<svg/>")
    (folder / ".source-hash").write_text("abc")
    (folder / "assets" / "a-1.js").write_text(SCRIPT)
    (folder / "assets" / "a-1.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    return folder


@pytest.fixture
def client(harness: ControlPlaneHarness, built: Path) -> TestClient:
    app = ConsoleMiddleware(harness.app, read_console(built))
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("path", ["/", "/sign-in", "/quota", "/keys", "/audit", "/projects/ours/jobs/job_1"])
def test_a_browser_gets_the_page_at_each_of_its_paths(client: TestClient, path: str) -> None:
    first, second = (client.get(path, headers=BROWSER) for _ in range(2))
    assert first.status_code == 200
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert "/assets/a-1.js" in first.text
    assert first.headers["cache-control"] == "no-store"
    assert first.text != second.text, "each page has its own nonce"


def test_the_policy_allows_only_this_server_and_no_inline_script(client: TestClient) -> None:
    page = client.get("/", headers=BROWSER)
    nonce = page.text.split('"')[1]
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["style-src"] == f"'self' 'nonce-{nonce}'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/sign-in", "/quota", "/projects/ours/jobs"])
def test_a_client_of_the_api_gets_a_problem_there(client: TestClient, path: str) -> None:
    for accept in ("application/json", "*/*"):
        reply = client.get(path, headers={"Accept": accept})
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")
        assert reply.headers["content-type"] == "application/problem+json"
    assert client.post(path, headers=BROWSER).status_code == 401


def test_a_browser_gets_no_page_in_place_of_the_api_and_the_probes(client: TestClient) -> None:
    assert client.get("/v1", headers=BROWSER).json()["name"] == "windlass"
    assert client.get("/healthz", headers=BROWSER).text == "ok"
    for path in ("/v1/whoami", "/metrics", "/internal/v1/runs/run_1", "/unknown", "/projectsx"):
        assert client.get(path, headers=BROWSER).status_code == 401, path


def test_hashed_files_are_kept_for_ever_and_compressed(client: TestClient) -> None:
    plain = client.get("/assets/a-1.js", headers={"Accept-Encoding": "identity"})
    assert (plain.text, plain.headers.get("content-encoding")) == (SCRIPT, None)
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
    small = client.get("/assets/a-1.js", headers={"Accept-Encoding": "gzip, deflate"})
    assert (small.text, small.headers["content-encoding"]) == (SCRIPT, "gzip")
    assert small.headers["vary"] == "Accept-Encoding"
    assert client.get("/icon.svg").headers["cache-control"] == "no-cache"
    assert client.head("/assets/a-1.js").text == ""


@pytest.mark.parametrize(
    "path",
    ["/assets/a-1.js.gz", "/assets/b-2.js", "/assets/../index.html", "/assets/%2e%2e/index.html", "/.source-hash"],
)
def test_other_files_are_not_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 401


def test_a_checkout_without_the_console_says_how_to_build_it(harness: ControlPlaneHarness, tmp_path: Path) -> None:
    app = ConsoleMiddleware(harness.app, read_console(tmp_path / "nothing"))
    page = TestClient(app).get("/", headers=BROWSER)
    assert page.status_code == 404
    assert "make console" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_internal_port_has_no_console(harness: ControlPlaneHarness) -> None:
    internal = create_app(harness.app_context, INTERNAL_ROUTERS)
    assert TestClient(internal).get("/", headers=BROWSER).status_code == 401


def test_whoami_has_the_permissions_that_the_console_shows_buttons_for(ready: ControlPlaneHarness) -> None:
    ready.client.put("/v1/projects/ours/members/vera", json={"role": "viewer"})
    viewer = ready.client_for_user("vera").get("/v1/whoami").json()
    assert "jobs:read" in viewer["project_permissions"]["ours"]
    assert "jobs:write" not in viewer["project_permissions"]["ours"]
    assert "quotas:read-all" not in viewer["permissions"]
    assert "jobs:write" in ready.client.get("/v1/whoami").json()["permissions"]
