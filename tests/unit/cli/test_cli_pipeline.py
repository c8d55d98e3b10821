"""``windlass pipeline compile``."""

from pathlib import Path

import pytest
import yaml
from kfp import components
from typer.testing import CliRunner

from windlass.cli.commands.pipeline import app
from windlass.domain.errors import InvalidError


def test_the_pipeline_of_the_worker_is_a_package_of_kfp(tmp_path: Path) -> None:
    out = tmp_path / "fine-tune.yaml"
    arguments = ["compile", "--worker", "-o", str(out), "--image", "registry.example.com/pipelines:1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    spec, _ = yaml.safe_load_all(out.read_text())
    assert spec["deploymentSpec"]["executors"]["exec-fine-tune"]["container"]["image"].endswith("/pipelines:1")
    assert components.load_component_from_text(out.read_text()).name == "windlass-fine-tune"
    assert "version 0." in result.output


def test_the_pipeline_of_users_has_a_job_as_its_parameter(tmp_path: Path) -> None:
    out = tmp_path / "fine-tune.yaml"
    arguments = ["compile", "-o", str(out), "--image", "registry.example.com/pipelines:1", "--url", "http://windlass"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    spec, _ = yaml.safe_load_all(out.read_text())
    assert spec["deploymentSpec"]["executors"]["exec-submit-job"]["container"]["image"].endswith("/pipelines:1")
    inputs = components.load_component_from_text(out.read_text()).component_spec.inputs
    assert {name: given.default for name, given in inputs.items()} == {
        "job": None,
        "key_secret": "windlass-key",
        "project": "default",
        "url": "http://windlass",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "missing/x.yaml"], "there is no folder"),
        (["-o", "x.txt"], "is not a YAML file"),
        (["-o", "folder.yaml"], "cannot be written: Is a directory"),
        (["-o", "x.yaml", "--url", "windlass-api:8741"], "--url: windlass-api:8741 is not a URL"),
        (["-o", "x.yaml", "--url", "http://windlass", "--worker"], "--url is not used with --worker"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.yaml").mkdir()
    result = CliRunner().invoke(app, ["compile", *arguments])
    assert isinstance(result.exception, InvalidError)
    assert message in result.exception.message
    assert not (tmp_path / "x.yaml").exists()
