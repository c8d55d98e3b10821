"""Attack classes 4, 5, 15 and 17: hostile texts in every parameter of a path and every text of a body.

The server answers each request, and stores some of the texts. It never reads or writes a file that a text names, never
connects to an address in a text, and never returns a text as a page. The requests go through a real server, with paths
as they are: a client library would normalise them.
"""

import http.client
import json
import secrets
import socket
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.factories.example_requests import ExampleRequest, example_requests, replaced, request_parts, text_fields
from tests.factories.example_tenants import ExampleTenant
from tests.factories.http_servers import serve
from tests.fakes.harness import ControlPlaneHarness

SECRET = "the content of a file outside of the data directory"
TRAVERSALS = [
    "../../outside.txt",
    "..%2f..%2foutside.txt",
    "%252e%252e%252foutside.txt",
    "..\\..\\outside.txt",
    "\uff0e\uff0e\uff0foutside.txt",
    "..",
    "a\x00b",
    "{outside}",
]
FILES = [*TRAVERSALS[:4], "{outside}", "file://{outside}", "~/outside.txt"]
COMMANDS = ["$(touch {touched})", "x\ntouch {touched}", "--config={outside}", "; touch {touched} #"]
ADDRESSES = [
    "http://127.0.0.1:{port}/canary",
    "http://[::ffff:127.0.0.1]:{port}/canary",
    "http://2130706433:{port}/canary",
    "//127.0.0.1:{port}/canary",
    "s3://127.0.0.1:{port}/canary",
]
MARKUP = "<script>alert(1)</script>"
NORMALISED = ("..", ".")
"""Segments of a path that clients and proxies remove; the server has no route for the rest."""


class Trap:
    """What hostile texts refer to: a file to read, a file to create, and a port to connect to."""

    def __init__(self, folder: Path) -> None:
        self.outside, self.touched = folder / "outside.txt", folder / "touched"
        self.outside.write_text(SECRET)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0)

    def texts(self, templates: list[str]) -> list[str]:
        port = self._listener.getsockname()[1]
        return [
            template.replace("{outside}", str(self.outside))
            .replace("{touched}", str(self.touched))
            .replace("{port}", str(port))
            for template in templates
        ]

    def check(self) -> None:
        """Assert that nothing has used it."""
        assert self.outside.read_text() == SECRET
        assert not self.touched.exists()
        with pytest.raises(BlockingIOError):
            self._listener.accept()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def trap(harness: ControlPlaneHarness) -> Iterator[Trap]:
    built = Trap(harness.home.parent)
    yield built
    built.close()


@pytest.fixture(scope="module")
def client(harness: ControlPlaneHarness) -> Iterator[http.client.HTTPConnection]:
    with serve(harness.app) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        yield connection
        connection.close()


def send(
    client: http.client.HTTPConnection, harness: ControlPlaneHarness, method: str, path: str, body: Any, **headers: str
) -> str:
    """Send a request and return the body of the reply, which must be no error of the server, and no page."""
    content = None if body is None else json.dumps(body)
    authorization = str(harness.client.headers["Authorization"])
    client.request(method, path, content, {"Authorization": authorization, **headers})
    reply = client.getresponse()
    text = reply.read().decode()
    unserved = reply.status == HTTPStatus.SERVICE_UNAVAILABLE and json.loads(text)["code"] == "endpoint_not_ready"
    assert reply.status < 500 or unserved, (method, path, body, reply.status, text)
    assert SECRET not in text
    kind = reply.headers["Content-Type"] or ""
    if kind.startswith("text/html"):
        assert "sandbox" in reply.headers["Content-Security-Policy"], path
    assert reply.headers.get_all("X-Content-Type-Options") == ["nosniff"], path
    return text


def files_outside(harness: ControlPlaneHarness) -> set[Path]:
    return {path for path in harness.home.parent.iterdir() if path != harness.home}


def paths_with(operation: ExampleRequest, tenant: ExampleTenant, text: str) -> Iterator[str]:
    """The paths of an operation with a text as one of its parameters: encoded, and as it is where that is a path."""
    for parameter in operation.parameters:
        name = operation.value_name(parameter)
        if text in NORMALISED and operation.changes:
            continue  # "/projects/.." names another route
        marked = operation.fill({**tenant.values, name: "MARK"})
        yield marked.replace("MARK", quote(text, safe=""))
        if text.startswith(("../", "..%")) and not operation.changes:
            yield marked.replace("MARK", text)


def test_no_parameter_of_a_path_leaves_its_folder(
    harness: ControlPlaneHarness, ours: ExampleTenant, trap: Trap, client: http.client.HTTPConnection
) -> None:
    before, tried = files_outside(harness), 0
    for operation in example_requests(harness.app):
        parts = request_parts(operation, ours.names)
        for text in trap.texts(TRAVERSALS):
            for path in paths_with(operation, ours, text):
                send(client, harness, operation.method, path, parts.json, **parts.headers)
                tried += 1
    assert tried > 800
    trap.check()
    assert files_outside(harness) == before


def test_no_text_of_a_body_is_a_path_a_command_an_address_or_a_page(
    harness: ControlPlaneHarness, ours: ExampleTenant, trap: Trap, client: http.client.HTTPConnection
) -> None:
    before, tried = files_outside(harness), 0
    hostile = trap.texts([*FILES, *COMMANDS, *ADDRESSES, MARKUP])
    for operation in example_requests(harness.app):
        if operation.body is None or operation.id == "createKey":  # its names are those of users
            continue
        body = request_parts(operation, ours.names).json
        for position in text_fields(body):
            for text in hostile[tried % 2 :: 2]:  # every other one, beginning at another one for the next field
                parts = request_parts(operation, {}, key=secrets.token_hex(8))
                changed = replaced(body, position, text)
                send(client, harness, operation.method, operation.fill(ours.values), changed, **parts.headers)
            tried += 1
    assert tried > 40
    harness.run_worker_once(2)  # what was accepted is carried out
    for _ in range(2):
        harness.rollouts.step()
    trap.check()
    assert files_outside(harness) == before
    assert not [path for path in harness.home.rglob("*") if "outside" in path.name or "touch" in path.name]


def test_stored_markup_is_returned_as_data(
    harness: ControlPlaneHarness, ours: ExampleTenant, trap: Trap, client: http.client.HTTPConnection
) -> None:
    for path in ("", f"/datasets/{ours.values['dataset']}", f"/models/{ours.values['model']}"):
        url = f"/v1/projects/ours{path}"
        field = "description" if path else "display_name"
        etag = harness.client.get(url).headers["ETag"]
        reply = harness.client.patch(url, json={field: MARKUP}, headers={"If-Match": etag})
        assert reply.json()[field] == MARKUP
    shown = 0
    for operation in example_requests(harness.app):
        if operation.method == "GET" and operation.id != "getDatasetReport":
            shown += MARKUP in send(client, harness, "GET", operation.fill(ours.values), None)
    assert shown >= 6


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "169.254.169.254"},
        {"X-Forwarded-Host": "169.254.169.254", "X-Forwarded-For": "169.254.169.254", "X-Forwarded-Proto": "gopher"},
        {"Forwarded": "host=169.254.169.254;proto=http", "X-Original-URL": "/v1/keys", "X-Rewrite-URL": "/v1/keys"},
    ],
)
def test_no_header_changes_where_a_reply_points(
    harness: ControlPlaneHarness, client: http.client.HTTPConnection, headers: dict[str, str]
) -> None:
    body = {"name": f"h-{secrets.token_hex(4)}"}
    headers = {**headers, "Content-Type": "application/json"}
    text = send(client, harness, "POST", "/v1/projects", body, **headers)
    assert json.loads(text)["name"] == body["name"]
    assert "169.254" not in text


def test_a_file_of_a_version_is_one_of_its_manifest(
    harness: ControlPlaneHarness, ours: ExampleTenant, client: http.client.HTTPConnection
) -> None:
    base = f"/v1/projects/ours/models/{ours.values['model']}/versions/1/files"
    assert json.loads(send(client, harness, "GET", f"{base}/report.json", None))["format"] == 2
    for path in ("manifest.json", "./report.json", "x/../report.json", "report.json/", "%2e/report.json"):
        assert json.loads(send(client, harness, "GET", f"{base}/{path}", None))["code"] == "not_found"
