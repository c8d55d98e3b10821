"""Attack class 19: credentials and texts of users, planted in every input, and searched in all that the server leaves.

A credential is found nowhere but in the reply that creates it. The texts of users are in the rows of their objects, and
not in logs and metrics.
"""

import json
import logging
import secrets
from collections.abc import Iterator

import pytest
from sqlalchemy import MetaData, select
from tests.factories.example_requests import ExampleRequest, example_requests, replaced, request_parts, text_fields
from tests.factories.example_tenants import ExampleTenant
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.transfers import TransferGrant
from windlass.telemetry import JsonLines

PATH_VALUE = "canary-in-a-path"
"""The log of a failed request has its path."""
VALUE = "canary-4c1de0ff"
"""A text that is valid as a name too."""
HEADERS = (
    *("Idempotency-Key", "If-Match", "Last-Event-ID", "Cookie", "X-Request-ID", "User-Agent", "Referer", "Accept"),
    *("Upload-Offset", "Forwarded"),
)
OPENS_STREAM = {"listJobEvents", "getJobLogs"}


class LogLines(logging.Handler):
    """Collects what the server would write to its log, at the lowest level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonLines())
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + "\n"


@pytest.fixture(scope="module")
def log() -> Iterator[LogLines]:
    handler, root = LogLines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="module")
def credentials(harness: ControlPlaneHarness, ours: ExampleTenant) -> dict[str, str]:
    """One credential of each kind, by what it is."""
    created = harness.client.post("/v1/keys", json={"user": "carol"}).json()
    renewed = harness.client.post(f"/v1/keys/{created['id']}:renew").json()
    grant = TransferGrant(subject="dsv_x", read=("projects/x",), write=())
    hasher = harness.deps.hasher
    return {
        "secret of the admin's key": _secret_of(str(harness.client.headers["Authorization"])),
        "secret of a key of a member": _secret_of(str(ours.admin.headers["Authorization"])),
        "secret of a new key": _secret_of(created["secret"]),
        "secret of a renewed key": _secret_of(renewed["secret"]),
        "token of a run": harness.access_control.run_token(ours.run.run),
        "token of a warm trainer": hasher.warm_trainer_token("ours", "warm-1"),
        "key of a model server": hasher.model_server_key("app"),
        "transfer token": harness.access_control.transfer_tokens.sign(grant, harness.clock.now()),
        "pepper": hasher.pepper.decode(),
    }


def _secret_of(token: str) -> str:
    return token.removeprefix("Bearer ").split("_", 2)[2]


@pytest.fixture(scope="module")
def replies(
    harness: ControlPlaneHarness, ours: ExampleTenant, credentials: dict[str, str], log: LogLines
) -> list[tuple[str, str, str]]:
    """Operation, place of the canary and text of each reply: a canary in each header, parameter and text of a body."""
    found: list[tuple[str, str, str]] = []
    for number, operation in enumerate(example_requests(harness.app)):
        kind = list(credentials)[number % len(credentials)]
        found += _with_canary_in_headers(harness, operation, ours, kind, credentials[kind])
        found += _with_canary_in_values(harness, operation, ours)
    harness.run_worker_once(2)
    harness.rollouts.step()
    return found


def _with_canary_in_headers(
    harness: ControlPlaneHarness, operation: ExampleRequest, tenant: ExampleTenant, kind: str, credential: str
) -> Iterator[tuple[str, str, str]]:
    """A request with a credential where it does not belong, and one with canaries in the other headers."""
    if operation.changes and not operation.body:
        return  # it may delete what the other requests need
    path = operation.fill(tenant.values)
    token = f"Bearer wlk_{'0' * 26}_{credential}" if "secret" in kind else f"Bearer {credential}"
    reply = harness.client.request(operation.method, path, headers={"Authorization": token})
    yield operation.id, kind, reply.text
    headers = dict.fromkeys(HEADERS, VALUE) | {"Authorization": str(harness.client.headers["Authorization"])}
    parts = request_parts(operation, tenant.names)
    reply = harness.client.request(operation.method, path, json=parts.json, content=parts.content, headers=headers)
    yield operation.id, "headers", reply.text


def _with_canary_in_values(
    harness: ControlPlaneHarness, operation: ExampleRequest, tenant: ExampleTenant
) -> Iterator[tuple[str, str, str]]:
    def send(place: str, path: str, body: object = None, **query: str) -> tuple[str, str, str]:
        parts = request_parts(operation, tenant.names, key=secrets.token_hex(8))
        body = parts.json if body is None else body
        reply = harness.client.request(
            operation.method, path, json=body, content=parts.content, headers=parts.headers, params=query
        )
        return operation.id, place, reply.text

    for parameter in operation.parameters:
        values = {**tenant.values, operation.value_name(parameter): PATH_VALUE}
        yield send(parameter, operation.fill(values))
    path = operation.fill(tenant.values)
    if not operation.changes and operation.id not in OPENS_STREAM:
        for name in (*operation.query, VALUE):
            yield send(f"?{name}", path, None, **{name: VALUE})
    if operation.body is not None:
        body = request_parts(operation, tenant.names).json
        for position in text_fields(body):
            yield send("/".join(map(str, position)), path, replaced(body, position, VALUE))


def test_no_reply_contains_a_credential(replies: list[tuple[str, str, str]], credentials: dict[str, str]) -> None:
    assert len(replies) > 350
    found = [
        (operation, place, kind)
        for operation, place, text in replies
        for kind, credential in credentials.items()
        if credential in text
    ]
    assert found == []


def test_no_line_of_the_log_contains_a_credential_or_a_text_of_a_user(
    replies: list[tuple[str, str, str]], credentials: dict[str, str], log: LogLines
) -> None:
    logging.getLogger("windlass").info("this line is in the log")
    assert "this line is in the log" in log.text
    assert [kind for kind, credential in credentials.items() if credential in log.text] == []
    lines = [line for line in log.text.splitlines() if VALUE in line and '"logger": "httpx' not in line]
    assert lines == []  # httpx2 is the client of this test


def test_no_metric_contains_a_credential_or_a_text_of_a_user(
    harness: ControlPlaneHarness, replies: list[tuple[str, str, str]], credentials: dict[str, str]
) -> None:
    metrics = harness.client.get("/metrics").text
    assert "windlass_http_requests_total" in metrics
    assert VALUE not in metrics
    assert [kind for kind, credential in credentials.items() if credential in metrics] == []


def test_no_row_and_no_file_contains_a_credential(
    harness: ControlPlaneHarness, replies: list[tuple[str, str, str]], credentials: dict[str, str]
) -> None:
    metadata = MetaData()
    metadata.reflect(harness.engine)
    found, values = [], 0
    with harness.engine.connect() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(select(table)).mappings():
                text = json.dumps(dict(row), default=str)
                found += [(table.name, kind) for kind, credential in credentials.items() if credential in text]
                values += VALUE in text
    assert values > 0, "the canaries of users are stored: the search works"
    for path in harness.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [(path.name, kind) for kind, text in credentials.items() if text.encode() in content]
    assert found == []


def test_events_and_audit_entries_contain_no_credential(
    harness: ControlPlaneHarness, ours: ExampleTenant, replies: list[tuple[str, str, str]], credentials: dict[str, str]
) -> None:
    jobs = harness.client.get("/v1/projects/ours/jobs", params={"limit": 200}).json()["items"]
    texts = [harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/events").text for job in jobs]
    texts += [harness.client.get("/v1/audit", params={"limit": 200}).text]
    assert any("job_accepted" in text for text in texts)
    assert [kind for kind, credential in credentials.items() if any(credential in text for text in texts)] == []
