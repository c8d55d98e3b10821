"""Deletions: they state what they remove, ask on a terminal, and need --yes elsewhere."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.unit.cli.conftest import Result, Windlass

Answer = Callable[..., Result]


@pytest.fixture
def answer(cli: Windlass, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Call the CLI on a pseudo-terminal that already holds the answer to a question."""

    def call(text: str, *arguments: str) -> Result:
        terminal, line = os.openpty()
        os.write(terminal, text.encode())
        with (
            os.fdopen(line, "r") as standard_input,
            os.fdopen(os.dup(line), "w") as standard_error,
            monkeypatch.context() as patched,
        ):
            patched.setattr(sys, "stdin", standard_input)
            patched.setattr(sys, "stderr", standard_error)
            result = cli(*arguments)
        shown = b""
        with suppress(OSError):  # EIO marks the end of the output when nobody has the terminal open
            while chunk := os.read(terminal, 1 << 16):
                shown += chunk
        os.close(terminal)
        return Result(result.code, result.out, shown.decode())

    return call


def _exists(cli: Windlass, *arguments: str) -> bool:
    return cli(*arguments).code == 0


def test_without_a_terminal_a_deletion_needs_yes_and_names_the_command(cli: Windlass) -> None:
    assert cli("project", "create", "lab").code == 0
    refused = cli("project", "delete", "lab")
    assert refused.code == 2
    assert "project lab would be deleted, with 1 member" in refused.err
    assert "windlass project delete lab --yes" in refused.err
    assert _exists(cli, "project", "show", "lab")
    deleted = cli("project", "delete", "lab", "--yes")
    assert (deleted.code, deleted.out) == (0, "")
    assert "project lab deleted, with 1 member" in deleted.err
    assert not _exists(cli, "project", "show", "lab")


@pytest.mark.parametrize(("text", "code", "kept"), [("y\n", 0, False), ("n\n", 1, True), ("\n", 1, True)])
def test_a_terminal_is_asked_and_no_is_the_default(
    cli: Windlass, answer: Answer, text: str, code: int, kept: bool
) -> None:
    result = answer(text, "dataset", "delete", "reviews")
    assert result.code == code
    assert "dataset reviews would be deleted, with 1 dataset version" in result.err
    assert "Delete dataset reviews? [y/N]" in result.err
    assert result.out == "", "the question is not data"
    assert _exists(cli, "dataset", "show", "reviews") is kept


@pytest.mark.parametrize(
    ("arguments", "kind", "name", "read"),
    [
        (["project", "delete", "default"], "project", "default", ["project", "show"]),
        (["dataset", "delete", "reviews"], "dataset", "reviews", ["dataset", "show", "reviews"]),
        (["dataset", "delete", "reviews@1"], "dataset version", "reviews@1", ["dataset", "show", "reviews@1"]),
        (["base-model", "delete", "tiny"], "base model", "tiny", ["base-model", "show", "tiny"]),
        (["pool", "delete", "spare"], "pool", "spare", ["pool", "show", "spare"]),
    ],
)
def test_dry_run_shows_the_deletion_and_changes_nothing(
    cli: Windlass, arguments: list[str], kind: str, name: str, read: list[str]
) -> None:
    assert cli("pool", "create", "spare", "--capacity", "1").code == 0
    preview = cli(*arguments, "--dry-run")
    assert preview.code == 0
    assert f"{kind} {name} would be deleted" in preview.err
    assert json.loads(cli(*arguments, "--dry-run", "--json").out)["kind"] == kind
    assert _exists(cli, *read)


def test_a_project_names_all_its_contents(cli: Windlass) -> None:
    preview = json.loads(cli("project", "delete", "default", "--dry-run", "--json").out)
    assert preview["contains"] == {"dataset": 1, "dataset version": 1, "member": 1, "quota": 1}
    assert preview["stored_bytes"] > 0


def test_a_revoked_key_is_named_by_its_id_and_user(cli: Windlass) -> None:
    key = json.loads(cli("key", "create", "ada", "--name", "laptop", "--json").out)["id"]
    refused = cli("key", "revoke", key)
    assert refused.code == 2
    assert f"key {key}, ada (laptop) would be revoked" in refused.err
    assert "revoked" in cli("key", "revoke", key, "--yes").err
    states = {line["id"]: line["revoked_at"] for line in json.loads(cli("key", "list", "--json").out)}
    assert states[key] is not None


def test_a_quota_is_deleted_after_a_confirmation_that_names_the_affected_jobs(cli: Windlass) -> None:
    refused = cli("quota", "delete", "local")
    assert refused.code == 2
    assert "the quota of project default in pool local would be deleted" in refused.err
    assert "--yes" in refused.err
    assert "no job would be preempted" in cli("quota", "delete", "local", "--dry-run").out
    assert cli("quota", "show", "-o", "name").out == "default/local\n"
    assert cli("quota", "delete", "local", "--yes").code == 0
    assert cli("quota", "show", "-o", "name").out == ""
