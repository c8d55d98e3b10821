"""Completion of object names in the shell: from the server, cached for seconds, silent and quick without a server."""

import socket
import time
from collections.abc import Callable

import pytest
from tests.fakes.harness import ControlPlaneHarness
from tests.unit.cli.conftest import Windlass

from windlass.cli.main import run

Complete = Callable[..., list[str]]
TIMEOUT = "windlass.cli.name_completion._TIMEOUT_SECONDS"
CACHED = "windlass.cli.name_completion._CACHE_SECONDS"


@pytest.fixture
def complete(windlass: Windlass, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Return what a shell offers for the last word of a command line."""
    del windlass  # sets an empty home
    monkeypatch.setattr(TIMEOUT, 60.0)  # the machine may be busy

    def call(*words: str, shell: str = "bash") -> list[str]:
        line = " ".join(("windlass", *words))
        with monkeypatch.context() as environment:
            environment.setenv("_WINDLASS_COMPLETE", f"complete_{shell}")
            environment.setenv("COMP_WORDS", line)
            environment.setenv("COMP_CWORD", str(len(words)))
            environment.setenv("_TYPER_COMPLETE_ARGS", line)
            environment.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
            with pytest.raises(SystemExit):
                run([])
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

    return call


def test_names_of_all_kinds_are_completed(cli: Windlass, harness: ControlPlaneHarness, complete: Complete) -> None:
    job = harness.submit("default", key="1", name="nightly")["id"]
    key = cli("key", "create", "ada", "--json").out.split('"id": "')[1].partition('"')[0]
    assert complete("job", "get", "job_") == [job]
    assert complete("job", "logs", "-f", "") == ["@last", job, "nightly"]
    assert complete("dataset", "show", "rev") == ["reviews"]
    assert complete("dataset", "rows", "reviews@") == ["reviews@1"]
    assert complete("base-model", "show", "") == ["tiny"]
    assert complete("job", "create", "--base-model", "t") == ["tiny"]
    assert complete("job", "create", "--method", "l") == ["lora"]
    assert complete("pool", "delete", "") == ["local"]
    assert complete("project", "delete", "d") == ["default"]
    assert complete("member", "remove", "") == ["admin"]
    assert key in complete("key", "revoke", "key_")
    assert complete("dataset", "show", "x") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_names_too(cli: Windlass, complete: Complete, shell: str) -> None:
    del cli
    assert "reviews" in " ".join(complete("dataset", "show", "rev", shell=shell))


def test_names_of_another_project_are_completed(
    cli: Windlass, harness: ControlPlaneHarness, complete: Complete
) -> None:
    del cli
    harness.create_project("lab")
    assert complete("dataset", "show", "-p", "lab", "") == []
    assert complete("dataset", "show", "-p", "default", "") == ["reviews"]
    assert complete("dataset", "show", "-p", "l") == ["lab"]


def test_names_are_cached_for_seconds_and_per_user(
    cli: Windlass, harness: ControlPlaneHarness, complete: Complete, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cli
    monkeypatch.setattr(CACHED, 3600.0)
    assert complete("pool", "show", "") == ["local"]
    harness.client.post("/v1/pools", json={"name": "spare", "capacity": 1})
    assert complete("pool", "show", "") == ["local"], "the answer of the last seconds"
    monkeypatch.setattr(CACHED, 0.0)
    assert complete("pool", "show", "") == ["local", "spare"]


@pytest.mark.parametrize("server", ["none", "refusing", "silent", "wrong-key"])
def test_without_an_answer_nothing_is_completed_and_the_shell_does_not_wait(
    complete: Complete, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, server: str
) -> None:
    import windlass.sdk  # noqa: F401 - the time of its import is the shell's, not the server's

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if server == "refusing":
            listener.close()
        url = request.getfixturevalue("url") if server == "wrong-key" else f"http://127.0.0.1:{port}"
        if server != "none":
            monkeypatch.setenv("WINDLASS_URL", url)
            monkeypatch.setenv("WINDLASS_KEY", "wlk_00000000000000000000000000_wrong")
        monkeypatch.setattr(TIMEOUT, 0.01)
        began = time.monotonic()
        assert complete("job", "get", "") == []
        # The timeout of a connection alone is 5 s.
        assert time.monotonic() - began < 3
