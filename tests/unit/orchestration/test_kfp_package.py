"""The package for a Kubeflow Pipelines server."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, components
from tests.architecture.tree import ROOT

from windlass import __version__
from windlass.orchestration.kfp.package import SECRET_PARAMETER, STEP, StepPod, render_package
from windlass_pipelines.definitions.on_server import fine_tune_on_server

TEMPLATE = ROOT / "platform/windlass/orchestration/kfp/fine_tune.yaml"
POD = StepPod(image="registry.example.com/pipelines@sha256:ab", variables={"WINDLASS_STEP_SETTINGS": "{}"})


def documents(pod: StepPod = POD) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.safe_load_all(render_package(pod).content)
    return spec, platform


def test_the_template_is_the_output_of_the_compiler(tmp_path: Path) -> None:
    out = tmp_path / "fine_tune.yaml"
    compiler.Compiler().compile(fine_tune_on_server("IMAGE"), str(out))
    assert TEMPLATE.read_text() == out.read_text(), "run `make docs`"


def test_kfp_accepts_the_package() -> None:
    loaded = components.load_component_from_text(render_package(POD).content.decode())
    assert list(loaded.component_spec.inputs or {}) == [SECRET_PARAMETER]


def test_the_pipeline_has_one_step_which_is_not_cached_and_is_repeated() -> None:
    tasks = documents()[0]["root"]["dag"]["tasks"]
    assert list(tasks) == [STEP]
    assert tasks[STEP]["cachingOptions"] == {}
    assert tasks[STEP]["retryPolicy"]["maxRetryCount"] == 2


def test_the_step_installs_nothing_and_has_the_settings_of_the_installation() -> None:
    container = documents()[0]["deploymentSpec"]["executors"]["exec-fine-tune"]["container"]
    assert container["image"] == POD.image
    assert "pip install" not in str(container["command"])
    assert {"name": "WINDLASS_STEP_SETTINGS", "value": "{}"} in container["env"]
    assert container["resources"]["resourceMemoryLimit"] == "768Mi"


def test_the_pod_mounts_the_secret_that_the_parameter_names_and_is_restricted() -> None:
    settings = documents()[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-fine-tune"]
    assert settings["secretAsVolume"][0]["secretNameParameter"] == {"componentInputParameter": SECRET_PARAMETER}
    assert settings["securityContext"]["runAsNonRoot"] is True
    assert settings["emptyDirMounts"] == [{"volumeName": "workspace", "mountPath": "/workspace"}]


def test_the_version_depends_on_the_content_only() -> None:
    version = render_package(POD).version
    assert version == render_package(POD).version
    assert version.startswith(f"{__version__}-")
    assert version != render_package(StepPod(image="another")).version


@pytest.mark.parametrize("name", ["HOME", "WINDLASS_RUN_CONTEXT", "WINDLASS_RUN_WORKSPACE", "WINDLASS_CA_BUNDLE"])
def test_the_step_finds_its_files_by_variables(name: str) -> None:
    container = documents()[0]["deploymentSpec"]["executors"]["exec-fine-tune"]["container"]
    assert name in [variable["name"] for variable in container["env"]]
