"""``windlass key`` for one's own keys, secrets in files, and ``windlass audit``."""

import json
import stat
from pathlib import Path

import pytest
from tests.fakes.harness import ControlPlaneHarness
from tests.unit.cli.conftest import Windlass


def test_the_secret_of_a_new_key_is_written_to_a_private_file(cli: Windlass, tmp_path: Path) -> None:
    file = tmp_path / "ada.key"
    created = cli("key", "create", "ada", "--out", str(file))
    assert (created.code, created.out) == (0, "")
    secret = file.read_text().strip()
    assert secret.startswith("wlk_")
    assert secret not in created.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cli("status", "--key-file", str(file)).code == 0
    again = cli("key", "create", "ada", "--out", str(file))
    assert again.code == 2
    assert "exists already" in again.err
    assert cli("key", "create", "ada", "--out", str(tmp_path / "none" / "key")).code == 2
    assert len([key for key in json.loads(cli("key", "list", "--json").out) if key["user"] == "ada"]) == 1


def test_a_user_lists_renews_and_revokes_own_keys(
    cli: Windlass, harness: ControlPlaneHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    assert cli("key", "create", "ada", "--only-project", "default", "--out", str(file)).code == 0
    monkeypatch.setenv("WINDLASS_KEY", file.read_text().strip())
    [old] = json.loads(cli("key", "list", "--json").out)
    assert old["project"] == "default"
    assert cli("key", "renew", "--out", str(file)).code == 0
    monkeypatch.setenv("WINDLASS_KEY", file.read_text().strip())
    assert {key["id"] for key in json.loads(cli("key", "list", "--json").out)} > {old["id"]}
    assert cli("key", "revoke", old["id"], "--yes").code == 0
    assert cli("key", "create", "eve").code == 3
    harness.clock.advance(2 * 3600)
    assert cli("key", "list").code == 0, "the new key is still valid"


def test_the_audit_log_lists_names_of_deleted_objects(cli: Windlass) -> None:
    assert cli("project", "create", "lab").code == 0
    assert cli("dataset", "create", "notes", "--task", "chat", "-p", "lab").code == 0
    assert cli("project", "delete", "lab", "--yes").code == 0
    shown = cli("audit", "list")
    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0][:4] == ["TIME", "ACTOR", "ACTION", "NAME"]
    assert ["project.delete", "lab"] in [line[4:6] for line in lines]
    assert ["dataset.create", "notes"] in [line[4:6] for line in lines]
    only = json.loads(cli("audit", "list", "--action", "project.delete", "--json").out)
    assert [entry["name"] for entry in only] == ["lab"]
    assert len(cli("audit", "list", "--limit", "2", "-o", "name").out.split()) == 2
    by_project = json.loads(cli("audit", "list", "-p", "default", "--json").out)
    assert by_project
    assert {entry["action"].partition(".")[0] for entry in by_project} <= {"project", "dataset", "member", "quota"}


def test_since_ends_the_list_at_the_first_older_entry(cli: Windlass) -> None:
    # the clock of the control plane is months behind that of the client
    assert cli("audit", "list", "--since", "1s", "-o", "name").out == ""
    assert cli("audit", "list", "--since", "9000d", "-o", "name").out != ""


def test_the_audit_log_is_for_admins(
    cli: Windlass, harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = harness.client_for_user("ada")
    monkeypatch.setenv("WINDLASS_KEY", ada.headers["Authorization"].removeprefix("Bearer "))
    assert cli("audit", "list").code == 3


def test_audit_lists_denied_requests_with_their_code(cli: Windlass, harness: ControlPlaneHarness) -> None:
    assert harness.client_for_user("eve").post("/v1/keys", json={"user": "x"}).status_code == 403
    shown = cli("audit", "list", "--outcome", "denied", "--actor", "eve", "--action", "key.create")
    [_, line] = shown.out.splitlines()
    assert "denied forbidden" in line
    assert "POST /v1/keys" in line
    [entry] = json.loads(cli("audit", "list", "--outcome", "denied", "--json").out)
    assert json.loads(cli("audit", "list", "--request", entry["request_id"], "--json").out) == [entry]
    assert json.loads(cli("audit", "list", "--key", entry["key"], "--json").out) == [entry]
    assert cli("audit", "list", "--until", "2020-01-01", "-o", "name").out == ""


def test_an_export_can_be_verified_without_the_server(
    cli: Windlass, harness: ControlPlaneHarness, tmp_path: Path
) -> None:
    harness.worker.seal_audit()
    file = tmp_path / "audit.jsonl"
    exported = cli("audit", "export", "--out", str(file))
    assert (exported.code, exported.out) == (0, ""), exported.err
    head = cli("audit", "verify", "-o", "name").out.strip()
    verified = cli("audit", "verify", "--file", str(file), "--head", head)
    assert (verified.code, "intact" in verified.out, head in verified.out) == (0, True, True), verified.err
    lines = file.read_text().splitlines()
    part = tmp_path / "part.jsonl"
    part.write_text("\n".join(lines[2:]))
    assert cli("audit", "verify", "--file", str(part), "--head", head).code == 0
    for changed, kind in (
        ([lines[0], lines[1].replace("admin", "eve"), *lines[2:]], "changed"),
        ([lines[0], *lines[2:]], "missing"),
        (lines[:-1], "truncated"),
    ):
        part.write_text("\n".join(changed))
        found = cli("audit", "verify", "--file", str(part), "--head", head, "--json")
        assert (found.code, json.loads(found.out)["problem"]["kind"]) == (1, kind)
    part.write_text("no json")
    assert cli("audit", "verify", "--file", str(part)).code == 2
    assert cli("audit", "verify", "--head", "no head").code == 2


def test_a_csv_file_is_chosen_by_its_name(cli: Windlass, tmp_path: Path) -> None:
    file = tmp_path / "audit.csv"
    assert cli("audit", "export", "--out", str(file), "--actor", "admin").code == 0
    assert file.read_text().startswith("id,time,actor,")
    assert cli("audit", "export", "--out", str(tmp_path / "none" / "audit.csv")).code == 2
    assert [path.name for path in tmp_path.glob("*audit*")] == ["audit.csv"]


def test_verify_reports_a_broken_chain_by_its_exit_code(cli: Windlass, harness: ControlPlaneHarness) -> None:
    harness.worker.seal_audit()
    assert cli("audit", "verify").code == 0
    with harness.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_delete")
        connection.exec_driver_sql("DELETE FROM audit WHERE position = 2")
    broken = cli("audit", "verify")
    assert broken.code == 1
    assert "row 2 is missing" in broken.out
