"""The routes of the audit log: filters, exports, verification."""

import csv
import io
import json
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from tests.factories.http_servers import serve
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.audit import fields_hash
from windlass.services.audit import AuditTrail

A_LINK = "0:" + "0" * 64


@pytest.fixture
def logged(harness: ControlPlaneHarness) -> ControlPlaneHarness:
    """A platform whose log has changes of two users, a minute apart, and a denied request."""
    harness.create_project("ours")
    harness.create_project("theirs", pool="other")
    harness.client.put("/v1/projects/ours/members/bob", json={"role": "admin"})
    bob = harness.client_for_user("bob")
    harness.clock.advance(60)
    data = {"name": "reviews", "task": "chat", "description": "=1+1"}
    assert bob.post("/v1/projects/ours/datasets", json=data, headers={"X-Request-Id": "bob-1"}).status_code == 201
    assert bob.post("/v1/projects/theirs/datasets", json=data).status_code == 404
    harness.clock.advance(60)
    assert harness.client.post("/v1/projects/theirs/datasets", json=data).status_code == 201
    return harness


def items(harness: ControlPlaneHarness, **params: Any) -> list[dict[str, Any]]:
    reply = harness.client.get("/v1/audit", params=params)
    assert reply.status_code == 200, reply.text
    listed: list[dict[str, Any]] = reply.json()["items"]
    return listed


def verification(harness: ControlPlaneHarness, **params: Any) -> dict[str, Any]:
    reply = harness.client.get("/v1/audit/verification", params=params)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def link(found: dict[str, Any]) -> str:
    return f"{found['position']}:{found['hash']}"


@pytest.mark.database("sqlite", "postgresql")
def test_each_filter_selects(logged: ControlPlaneHarness) -> None:
    [bobs] = items(logged, request_id="bob-1")
    assert (bobs["actor"], bobs["action"], bobs["name"]) == ("bob", "dataset.create", "reviews")
    assert bobs["changes"]["task"] == {"before": None, "after": "chat"}
    assert {each["outcome"] for each in items(logged, key=bobs["key"])} == {"accepted", "denied"}
    [denied] = items(logged, outcome="denied")
    assert (denied["actor"], denied["action"], denied["code"]) == ("bob", "dataset.create", "not_found")
    assert denied["name"] == "POST /v1/projects/theirs/datasets"
    assert [each["id"] for each in items(logged, project="theirs", outcome="denied")] == [denied["id"]]
    noon = logged.clock.now()
    assert len(items(logged, action="dataset.create", since=noon.isoformat())) == 1
    assert len(items(logged, action="dataset.create", until=noon.isoformat())) == 2
    assert items(logged, actor="bob", action="dataset.create", outcome="accepted") == [bobs]
    assert logged.client.get("/v1/audit", params={"since": "2026-01-01T00:00:00"}).status_code == 422


@pytest.mark.database("sqlite", "postgresql")
def test_an_export_has_all_entries_oldest_first(logged: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlass.services.audit._EXPORTED_ROWS", 3)
    logged.worker.seal_audit()
    reply = logged.client.get("/v1/audit/export")
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert lines == items(logged, limit=200)[::-1]
    assert [fields_hash(line) for line in lines] == [line["hash"] for line in lines]
    assert len(logged.client.get("/v1/audit/export", params={"actor": "bob"}).text.splitlines()) == 2


def test_a_csv_export_runs_no_formula(logged: ControlPlaneHarness) -> None:
    logged.client.put("/v1/projects/ours/members/-2", json={"role": "viewer"})
    evil = logged.client_for_user("eve", name="=cmd|' /C calc'!A0")
    assert evil.post("/v1/keys", json={"user": "x"}).status_code == 403
    reply = logged.client.get("/v1/audit/export", params={"format": "csv"})
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    rows = [*csv.DictReader(io.StringIO(reply.text, newline=""))]
    assert [row["id"] for row in rows] == [each["id"] for each in items(logged, limit=200)[::-1]]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "@", "\t", "\r"))]
    assert json.loads(rows[0]["changes"])
    plain = logged.client.get("/v1/audit/export", params={"format": "csv", "escape_formulas": "false"}).text
    assert len(plain) <= len(reply.text)


def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe(logged: ControlPlaneHarness) -> None:
    with logged.database.write() as uow:
        [entry] = uow.audit.all({"request_id": "bob-1"})
        uow.audit.add(entry.model_copy(update={"id": "aud_zz", "name": "@SUM(A1)", "actor": "=1+1"}))
    for escape, actor, name in (("true", "'=1+1", "'@SUM(A1)"), ("false", "=1+1", "@SUM(A1)")):
        params = {"format": "csv", "escape_formulas": escape}
        row = [*csv.DictReader(io.StringIO(logged.client.get("/v1/audit/export", params=params).text))][-1]
        assert (row["actor"], row["name"]) == (actor, name)


@pytest.mark.database("sqlite", "postgresql")
def test_a_verification_goes_on_in_parts_and_knows_a_saved_head(logged: ControlPlaneHarness) -> None:
    trail = AuditTrail(logged.deps, ADMIN)
    assert verification(logged)["unsealed"] == len(items(logged, limit=200))
    logged.worker.seal_audit()
    whole = verification(logged)
    assert (whole["problem"], whole["complete"], whole["unsealed"]) == (None, True, 0)
    assert whole["rows"] == whole["head"]["position"] == len(items(logged, limit=200))
    assert whole["checked"] == whole["head"]
    last, rows = None, 0
    while True:
        part = trail.verify(last, None, limit=2)
        last, rows = part.checked, rows + part.rows
        if part.complete:
            break
    assert rows == whole["rows"]
    logged.client.post("/v1/keys", json={"user": "x"})
    logged.clock.advance(60)
    logged.worker.seal_audit()
    later = verification(logged, head=link(whole["head"]), after=link(whole["head"]))
    assert (later["problem"], later["rows"]) == (None, 1)
    assert verification(logged, after=A_LINK, head=A_LINK)["problem"] is None
    forged = verification(logged, head=f"{whole['head']['position']}:{'f' * 64}")
    assert (forged["problem"]["kind"], forged["problem"]["position"]) == ("changed", whole["head"]["position"])
    future = verification(logged, head=f"99:{'f' * 64}")
    assert future["problem"]["kind"] == "truncated"


@pytest.mark.parametrize("value", ["1", "x:y", f"-1:{'0' * 64}", f"01:{'0' * 64}", f"1:{'0' * 63}", f"1:{'0' * 64}\n"])
def test_a_malformed_head_is_refused(harness: ControlPlaneHarness, value: str) -> None:
    assert harness.client.get("/v1/audit/verification", params={"head": value}).status_code == 422


@pytest.mark.database("sqlite")
def test_a_row_that_was_changed_in_the_database_file_is_named(logged: ControlPlaneHarness) -> None:
    logged.worker.seal_audit()
    with logged.engine.begin() as connection:
        for name in [*connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars()]:
            connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(text("UPDATE audit SET actor = 'eve' WHERE position = 3"))
    found = verification(logged)
    assert (found["problem"]["kind"], found["problem"]["position"], found["checked"]["position"]) == ("changed", 3, 2)
    assert found["complete"]


def test_the_audit_log_is_for_platform_roles(logged: ControlPlaneHarness) -> None:
    bob = logged.client_for_user("bob")
    for path in ("", "/export", "/verification"):
        assert bob.get(f"/v1/audit{path}").status_code == 403


@pytest.mark.parametrize(
    ("trusted", "address"), [("", "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("127.0.0.0/8", "192.0.2.7")]
)
def test_only_a_trusted_proxy_names_the_address_of_the_client(
    harness: ControlPlaneHarness, trusted: str, address: str
) -> None:
    headers = {"X-Forwarded-For": "192.0.2.7", "Authorization": harness.client.headers["Authorization"]}
    with serve(harness.app, trusted_proxies=trusted) as port:
        made = httpx2.post(f"http://127.0.0.1:{port}/v1/keys", json={"user": "x"}, headers=headers)
        denied = httpx2.post(f"http://127.0.0.1:{port}/v1/keys", json={}, headers={"X-Forwarded-For": "192.0.2.7"})
    assert (made.status_code, denied.status_code) == (201, 401)
    assert [each["address"] for each in items(harness)[:2]] == [address, address]
