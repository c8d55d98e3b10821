"""``windlass pipeline compile``."""

from pathlib import Path

import yaml
from kfp import components
from typer.testing import CliRunner

from windlass.cli.commands.pipeline import app


def test_the_compiled_pipeline_is_a_package_of_kfp(tmp_path: Path) -> None:
    out = tmp_path / "fine-tune.yaml"
    result = CliRunner().invoke(app, ["compile", "-o", str(out), "--image", "registry.example.com/pipelines:1"])
    assert result.exit_code == 0, result.output
    spec, _ = yaml.safe_load_all(out.read_text())
    assert spec["deploymentSpec"]["executors"]["exec-fine-tune"]["container"]["image"].endswith("/pipelines:1")
    assert components.load_component_from_text(out.read_text()).name == "windlass-fine-tune"
    assert "version 0." in result.output
