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
    shown = cli("audit")
    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0][:4] == ["TIME", "ACTOR", "ACTION", "NAME"]
    assert ["project.delete", "lab"] in [line[4:6] for line in lines]
    assert ["dataset.create", "notes"] in [line[4:6] for line in lines]
    only = json.loads(cli("audit", "--action", "project.delete", "--json").out)
    assert [entry["name"] for entry in only] == ["lab"]
    assert len(cli("audit", "--limit", "2", "-o", "name").out.split()) == 2
    by_project = json.loads(cli("audit", "-p", "default", "--json").out)
    assert by_project
    assert {entry["action"].partition(".")[0] for entry in by_project} <= {"project", "dataset", "member", "quota"}


def test_since_ends_the_list_at_the_first_older_entry(cli: Windlass) -> None:
    # the clock of the control plane is months behind that of the client
    assert cli("audit", "--since", "1s", "-o", "name").out == ""
    assert cli("audit", "--since", "9000d", "-o", "name").out != ""


def test_the_audit_log_is_for_admins(
    cli: Windlass, harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = harness.client_for_user("ada")
    monkeypatch.setenv("WINDLASS_KEY", ada.headers["Authorization"].removeprefix("Bearer "))
    assert cli("audit").code == 3
