"""Every operation of the OpenAPI document that changes something: one audit entry if accepted, one if denied."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from tests.factories.audited_requests import AuditedScenario, CommittedTransactions, P
from tests.factories.inline_processor import InlineProcessor
from tests.fakes.backends import NOON
from tests.fakes.harness import ControlPlaneHarness

from windlass.audit_settings import AuditSettings
from windlass.domain.audit import AuditOutcome
from windlass.domain.errors import UnauthenticatedError
from windlass.domain.identity import IdentityClaims
from windlass_api.audited_operations import AUDITED, DENIED_ONLY, NEVER


def mutating_operations(harness: ControlPlaneHarness) -> Iterator[tuple[str, str, str]]:
    """Yield operation, method and path of every operation that is no GET."""
    for path, operations in harness.app.openapi()["paths"].items():
        for method, operation in operations.items():
            if method not in {"get", "head", "options"}:
                yield operation["operationId"], method.upper(), path


class StubProvider:
    """An identity provider whose tokens are the names of users; ``forged`` is refused."""

    issuer = "https://id.example"

    def verify_id_token(self, token: str) -> IdentityClaims:
        if token == "forged":
            raise UnauthenticatedError("the token is not valid")
        return IdentityClaims(issuer=self.issuer, subject=token, name=token, expires_at=NOON + timedelta(hours=1))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    settings = AuditSettings(denied_entries_per_caller=1000, denied_entries=1000)
    identity: Any = StubProvider()  # a part of it
    processor = InlineProcessor(tmp_path / "data")
    harness = ControlPlaneHarness(tmp_path, audit=settings, identity=identity, processor=processor)
    with harness.client:
        yield harness
    harness.close()


def test_every_mutating_operation_has_an_action(harness: ControlPlaneHarness) -> None:
    """A new operation needs a line in ``audited_operations``, and one in the scenario below."""
    assert {operation for operation, _, _ in mutating_operations(harness)} == {*AUDITED, *DENIED_ONLY, *NEVER}


@pytest.mark.database("sqlite", "postgresql")
def test_each_accepted_change_has_one_entry_in_its_transaction(harness: ControlPlaneHarness) -> None:
    scenario = AuditedScenario(harness)
    scenario.run()
    assert {*scenario.called} | {"signUploadParts"} == {*AUDITED, *DENIED_ONLY}
    text = "".join(entry.model_dump_json() for entry in scenario.entries())
    for secret in scenario.secrets:
        assert secret.split("_", 2)[2] not in text
    assert "private sentence" not in text
    while harness.worker.sealer.seal():
        pass
    verified = harness.client.get("/v1/audit/verification").json()
    assert (verified["problem"], verified["unsealed"]) == (None, 0)
    assert verified["rows"] == len(scenario.entries())


def test_dry_runs_and_repeated_requests_that_change_nothing_have_no_entry(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    assert ready.client.post(f"{P}/jobs/{job['id']}:cancel").status_code == 200
    ready.run_worker_once(2)
    with ready.database.read() as uow:
        before = uow.audit.count()
    ready.submit("ours", key="1")
    ready.client.post(f"{P}/jobs/{job['id']}:cancel")
    assert ready.client.delete(f"{P}/jobs/{job['id']}", params={"dry_run": "true"}).status_code == 200
    assert ready.client.delete(P, params={"dry_run": "true"}, headers={"If-Match": '"1"'}).status_code == 200
    with ready.database.read() as uow:
        assert uow.audit.count() == before


@pytest.fixture
def unlimited(harness: ControlPlaneHarness) -> ControlPlaneHarness:
    harness.create_project("ours")
    return harness


BODIES = {
    "/v1/keys": {"user": "bob"},
    "/v1/auth/cli-sessions": {"id_token": "forged"},
    "/v1/auth/browser-sessions": {"key": "wlk_01m810c6xggwmq6ybzy8jrqebf_" + "x" * 43},
    "/v1/auth/link-sessions": {"code": "wls_01m810c6xggwmq6ybzy8jrqebf_" + "x" * 43},
}
SIGN_IN = {"createCliSession", "createBrowserSession", "createLinkSession"}
"""They need no credential; a denied one is anonymous for every sender."""
OWN = {"endSession", "createSignInLink"}
"""Of the caller's own credential: no user is denied. A key has no session that could end."""


def send(client: TestClient, method: str, path: str, own_key: str) -> httpx2.Response:
    for name in [part.partition("}")[0] for part in path.split("{")[1:]]:
        value = {"project": "ours", "key": own_key, "number": "1"}.get(name, "x")
        path = path.replace("{" + name + "}", value)
    headers = {"If-Match": '"1"', "Idempotency-Key": "k", "Upload-Offset": "0", "X-Request-Id": "denied"}
    body: dict[str, Any] = {} if method == "DELETE" else {"json": BODIES.get(path, {})}
    return client.request(method, path, headers=headers, **body)


Caller = Callable[[ControlPlaneHarness], TestClient]


def anonymous(harness: ControlPlaneHarness) -> TestClient:
    client = harness.client_for_key("")
    del client.headers["Authorization"]
    return client


def stranger(harness: ControlPlaneHarness) -> TestClient:
    return harness.client_for_user("eve")


def viewer(harness: ControlPlaneHarness) -> TestClient:
    harness.client.put(f"{P}/members/eve", json={"role": "viewer"})
    return harness.client_for_user("eve")


@pytest.mark.database("sqlite", "postgresql")
@pytest.mark.parametrize(
    ("caller", "actor", "statuses"),
    [(anonymous, "anonymous", {401}), (stranger, "eve", {403, 404}), (viewer, "eve", {403, 404})],
)
def test_each_denied_change_has_one_entry(
    unlimited: ControlPlaneHarness, caller: Caller, actor: str, statuses: set[int]
) -> None:
    client = caller(unlimited)
    others_key = unlimited.client.get("/v1/whoami").json()["key"]
    with unlimited.database.read() as uow:
        project = uow.projects.get({"name": "ours"}).id
    transactions = CommittedTransactions()
    unlimited.database.add_commit_hook(transactions)
    denied = 0
    for operation, method, path in mutating_operations(unlimited):
        transactions.seen.clear()
        reply = send(client, method, path, others_key)
        if operation in OWN and actor != "anonymous":
            continue
        if operation in NEVER:
            assert [entries for entries, _ in transactions.seen if entries] == [], operation
            continue
        assert reply.status_code in (statuses if operation not in SIGN_IN else {401}), (
            operation,
            reply.status_code,
            reply.text,
        )
        [([entry], has_changes)] = transactions.seen
        assert not has_changes, operation
        assert entry.action == {**AUDITED, **DENIED_ONLY}[operation]
        assert (entry.outcome, entry.code) == (AuditOutcome.DENIED, reply.json()["code"])
        expected = "anonymous" if operation in SIGN_IN else actor
        assert (entry.actor, entry.request_id, entry.address, entry.count) == (expected, "denied", "testclient", 1)
        assert entry.name.startswith(f"{method} /v1/")
        assert (entry.key is None) == (expected == "anonymous")
        assert entry.project == (project if actor == "eve" and "{project}" in path else None)
        denied += 1
    assert denied == len(AUDITED) + len(DENIED_ONLY) - len(OWN) * (actor != "anonymous")


def test_a_request_that_only_reads_or_fails_otherwise_has_no_denied_entry(unlimited: ControlPlaneHarness) -> None:
    eve = stranger(unlimited)
    with unlimited.database.read() as uow:
        before = uow.audit.count()
    for client in (anonymous(unlimited), eve):
        for method in ("GET", "HEAD", "OPTIONS"):
            assert client.request(method, P).status_code in {401, 404, 405}
    assert unlimited.client.post("/v1/projects/none/datasets", json={}).status_code == 404, "an admin may see all"
    assert unlimited.client.post(f"{P}/datasets", json={}).status_code == 422
    assert unlimited.client.delete(f"{P}/datasets/none", headers={"If-Match": '"1"'}).status_code == 404
    assert unlimited.client.post("/v1/none", json={}).status_code == 404
    with unlimited.database.read() as uow:
        assert uow.audit.count() == before


def test_an_anonymous_request_names_the_key_that_it_claims(unlimited: ControlPlaneHarness) -> None:
    made = unlimited.client.post("/v1/keys", json={"user": "ada"}).json()
    unlimited.client.delete(f"/v1/keys/{made['id']}")
    assert unlimited.client_for_key(made["secret"]).post("/v1/keys", json={"user": "x"}).status_code == 401
    unknown = unlimited.client_for_key("not a key").post(f"/no\u202esuch/{'x' * 5000}", json={})
    assert unknown.status_code == 401
    run = unlimited.client_for_key("wlr_x").post("/internal/v1/runs/run_01m810c6xggwmq6ybzy8jrqebf/register", json={})
    assert run.status_code == 401
    listed = unlimited.client.get("/v1/audit", params={"outcome": "denied"}).json()["items"]
    shown = [(each["actor"], each["key"], each["action"]) for each in listed]
    assert shown == [
        ("anonymous", None, "request.internal"),
        ("anonymous", None, "request.unknown"),
        ("anonymous", made["id"], "key.create"),
    ]
    assert len(listed[1]["name"]) < 400
    assert "\u202e" not in listed[1]["name"]
    assert made["secret"] not in json.dumps(listed)
