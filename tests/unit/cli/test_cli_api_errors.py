"""Errors of the API on the command line: flags instead of fields, hints that are complete commands."""

import json
from pathlib import Path

import pytest
import typer
from tests.fakes.harness import ControlPlaneHarness
from tests.unit.cli.conftest import Windlass
from tests.unit.cli.test_cli_commands import _finish

from windlass.cli.api_errors import _FIELDS, JOB_FIELDS
from windlass.cli.main import _load
from windlass.domain.errors import UnavailableError
from windlass.domain.specs import JobSpec
from windlass.sdk._sync.jobs import Jobs

JOB = ("--task", "text-classification", "--base-model", "tiny", "--dataset", "reviews", "--model", "classifier")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["job", "create", *JOB, "--max-length", "-1"], "--max-length: must be"),
        (["job", "create", *JOB, "--lr", "0"], "--learning-rate: must be"),
        (["job", "create", *JOB, "--gpus", "0"], "--gpus: must be"),
        (["job", "create", *JOB, "--gate", "accuracy > x"], "--gate: "),
        (["job", "create", *JOB, "--set", "training.warmup=3"], "--set training.warmup: is not a known field"),
        (["job", "create", "--base-model", "tiny"], "--task: is required"),
        (["job", "create", *JOB, "--base-model", "none"], "--base-model: "),
        (["project", "create", "Not A Name"], "NAME: use 1 to 40 characters"),
        (["pool", "create", "p", "--capacity", "1", "--gpu-type", "x" * 300], "--gpu-type: must have at most"),
        (["key", "create", "ada", "--only-project", "no where"], "--only-project: use 1 to 40 characters"),
        (["base-model", "add", "m", "no/such/folder"], "FOLDER: there is no /"),
        (["endpoint", "create", "desk", "none@1"], "MODEL@VERSION: there is no model none"),
        (["endpoint", "create", "desk", "none@1", "--min-replicas", "0", "--max-replicas", "9999"], "--max-replicas: "),
    ],
)
def test_a_field_has_the_name_of_the_flag_or_argument_that_sets_it(
    cli: Windlass, arguments: list[str], name: str
) -> None:
    result = cli(*arguments)
    assert result.code in {2, 4}, result.err
    assert name in result.err
    assert "/spec" not in result.err


def test_a_field_of_a_file_keeps_the_name_that_it_has_in_the_file(cli: Windlass, tmp_path: Path) -> None:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}
    file = tmp_path / "job.json"
    file.write_text(json.dumps({**spec, "training": {"max_length": -1, "seed": 1}}))
    assert "error: training.max_length: must be" in cli("job", "create", "-f", str(file)).err
    override = cli("job", "create", "-f", str(file), "--max-length", "-2")
    assert "error: --max-length: must be" in override.err


def test_every_flag_of_a_job_sets_an_existing_field() -> None:
    known = JobSpec.model_json_schema()
    create = _load("job").commands["create"]
    parameters = {parameter.name for parameter in create.params}
    assert set(JOB_FIELDS) <= parameters
    assert {path.partition(".")[0] for path in JOB_FIELDS.values()} <= set(known["properties"])


def test_every_renamed_parameter_exists() -> None:
    for group, fields in _FIELDS.items():
        loaded = _load(group)
        commands = loaded.commands.values() if isinstance(loaded, typer.core.TyperGroup) else [loaded]
        assert set(fields) <= {parameter.name for command in commands for parameter in command.params}, group


def test_a_suggested_command_acts_on_the_same_project(cli: Windlass, harness: ControlPlaneHarness) -> None:
    harness.create_project("lab")
    harness.create_dataset("lab")
    created = cli("job", "create", *JOB, "-p", "lab")
    job = json.loads(cli("job", "list", "-p", "lab", "--json").out)[0]["id"]
    assert f"follow: windlass job watch {job} --project lab" in created.err
    refused = cli("dataset", "delete", "reviews@1", "--project", "lab", "--yes")
    assert refused.code == 5
    assert f"`windlass job cancel {job} --project lab`" in refused.err
    assert "windlass job watch @last" not in created.err


def test_a_permission_that_no_role_has_is_asked_from_an_admin(
    cli: Windlass, harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.client.put("/v1/projects/default/members/bob", json={"role": "admin"})
    bob = harness.client_for_user("bob")
    monkeypatch.setenv("WINDLASS_KEY", bob.headers["Authorization"].removeprefix("Bearer "))
    assert "ask a platform admin" in cli("quota", "set", "local", "5").err
    harness.client.put("/v1/projects/default/members/bob", json={"role": "viewer"})
    assert "ask an admin of the project" in cli("dataset", "delete", "reviews", "--yes").err


def test_a_server_that_ended_is_not_described_as_an_unknown_url(
    windlass: Windlass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    gone = {"pid": 1, "start_time": 5.0, "url": "http://127.0.0.1:9", "version": "0"}
    (home / "server.json").write_text(json.dumps(gone))
    (home / "admin.key").write_text("wlk_1_secret")
    monkeypatch.setenv("WINDLASS_HOME", str(home))
    for command in (["status"], ["job", "list"]):
        result = windlass(*command)
        assert result.code == 7
        assert f"no server runs: the one that used {home}" in result.err
        assert "windlass up" in result.err
        assert "windlass status" not in result.err


def test_an_impossible_job_is_described_once(cli: Windlass) -> None:
    rejected = cli("job", "create", *JOB, "--gpus", "9")
    assert rejected.code == 6
    assert "error: the job can never start: needs 9 CPU slots" in rejected.err
    assert "from 9 to 1" in rejected.err
    preview = cli("job", "create", *JOB, "--gpus", "9", "--dry-run")
    assert (preview.out + preview.err).lower().count("can never start") == 1


def test_an_endpoint_can_name_a_model_without_a_version(cli: Windlass, harness: ControlPlaneHarness) -> None:
    from tests.unit.cli.test_cli_commands import _finish

    job = cli("job", "create", *JOB, "-o", "name").out.strip()
    _finish(harness, job)
    created = cli("endpoint", "create", "desk", "classifier", "--no-wait", "--json")
    assert created.code == 0, created.err
    assert json.loads(created.out)["spec"]["traffic"][0]["version"] == 1
    assert "the newest version of classifier is classifier@1" in created.err


def test_a_follower_that_loses_the_server_names_the_command_that_attaches_again(
    cli: Windlass, harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = harness.submit("default", key="1")["id"]

    def lost(*_: object, **__: object) -> None:
        raise UnavailableError(f"job {job} was disconnected: nothing answers")

    monkeypatch.setattr(Jobs, "stream", lost)
    result = cli("job", "watch", job, "-p", "default")
    assert result.code == 7
    assert f"job {job} does not depend on this command" in result.err
    assert f"`windlass job watch {job} --project default`" in result.err


def test_the_lineage_of_a_model_is_a_path_of_names(cli: Windlass, harness: ControlPlaneHarness) -> None:
    job = cli("job", "create", *JOB, "-o", "name").out.strip()
    _finish(harness, job)
    shown = cli("model", "show", "classifier@1").out
    assert f"reviews@1 -> {job} -> classifier@1" in shown
    assert cli("dataset", "delete", "reviews", "--yes").code == 0
    assert f"reviews@1 -> {job} -> classifier@1" in cli("model", "show", "classifier@1").out, (
        "the job has the reference"
    )
    edges = json.loads(cli("model", "show", "classifier@1", "--json").out)["lineage"]
    assert {edge["object_name"] for edge in edges} == {job, "reviews@1", "tiny"}
    listed = cli("model", "show", "classifier").out
    assert "classifier@1" in listed
    assert "candidate" in listed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pool", "local"), "this server serves endpoints on CPUs only"),
        (("--gpus", "1"), "gpus needs pool"),
    ],
)
def test_an_endpoint_asks_for_gpus(
    cli: Windlass, harness: ControlPlaneHarness, options: tuple[str, ...], message: str
) -> None:
    from tests.unit.cli.test_cli_commands import _finish

    _finish(harness, cli("job", "create", *JOB, "-o", "name").out.strip())
    refused = cli("endpoint", "create", "desk", "classifier@1", *options, "--no-wait")
    assert refused.code != 0
    assert message in refused.err
    assert cli("endpoint", "create", "desk", "classifier@1", "--gpus", "0", "--no-wait").code == 0


def test_an_endpoint_is_shown_with_its_complete_url(cli: Windlass, harness: ControlPlaneHarness, url: str) -> None:
    _finish(harness, cli("job", "create", *JOB, "-o", "name").out.strip())
    assert cli("endpoint", "create", "desk", "classifier@1", "--no-wait").code == 0
    assert f"{url}/v1/projects/default/endpoints/desk:predict" in cli("endpoint", "show", "desk").out
