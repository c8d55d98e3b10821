"""The settings of pods that are written without kfp-kubernetes are those that kfp-kubernetes writes."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, dsl, kubernetes
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig

from windlass.orchestration.kfp.job_package import KEY_NAME, KEY_PARAMETER, render_job_package
from windlass.orchestration.kfp.package import SECRET_PARAMETER, PipelinePackage, StepPod, render_package
from windlass.runtime.context import KFP_RUN_ID_VARIABLE

POD = StepPod(image="pipelines:1", labels={"app.kubernetes.io/managed-by": "windlass", "windlass.dev/task": "run"})
USER = 1000
PACKAGES = {"runs": render_package(POD), "jobs": render_job_package(POD, "")}


def executor_config(documents: Any) -> dict[str, Any]:
    """Return the settings of the only executor."""
    [config] = list(documents)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    return dict(config)


def compiled(configure: Callable[[dsl.PipelineTask, Any], None], tmp_path: Any) -> dict[str, Any]:
    """Return the settings that kfp-kubernetes writes for a pipeline with one parameter and one step."""

    def nothing() -> None:
        """Do nothing."""

    step = dsl.component(nothing, base_image="pipelines:1", install_kfp_package=False)

    def pipeline(name: str) -> None:
        task = step()
        configure(task, name)
        for key, value in POD.labels.items():
            kubernetes.add_pod_label(task, key, value)
        kubernetes.empty_dir_mount(task, volume_name="workspace", mount_path=POD.workspace_path)
        kubernetes.use_field_path_as_env(task, KFP_RUN_ID_VARIABLE, "metadata.labels['pipeline/runid']")
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER)

    out = tmp_path / "compared.yaml"
    compiler.Compiler().compile(dsl.pipeline(name="compared")(pipeline), str(out))
    return executor_config(yaml.safe_load_all(out.read_text()))


def renamed(config: dict[str, Any], parameter: str) -> dict[str, Any]:
    """Return settings with the parameter of ``compared`` renamed, and with the field that only the format has."""
    for volume in [*config.get("secretAsVolume", []), *config.get("secretAsEnv", [])]:
        volume["secretNameParameter"] = {"componentInputParameter": parameter}
    config["securityContext"]["runAsNonRoot"] = True  # set_security_context has no argument for it
    return config


def test_the_pods_of_runs_are_as_the_sdk_writes_them(tmp_path: Any) -> None:
    def configure(task: dsl.PipelineTask, name: Any) -> None:
        kubernetes.use_secret_as_volume(task, name, mount_path=POD.context_path)

    expected = renamed(compiled(configure, tmp_path), SECRET_PARAMETER)
    assert executor_config(yaml.safe_load_all(PACKAGES["runs"].content)) == expected


def test_the_pods_of_submitted_jobs_are_as_the_sdk_writes_them(tmp_path: Any) -> None:
    def configure(task: dsl.PipelineTask, name: Any) -> None:
        kubernetes.use_secret_as_env(task, name, {KEY_NAME: "WINDLASS_KEY"})

    expected = renamed(compiled(configure, tmp_path), KEY_PARAMETER)
    assert executor_config(yaml.safe_load_all(PACKAGES["jobs"].content)) == expected


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
def test_the_server_knows_every_field(package: PipelinePackage) -> None:
    config = executor_config(yaml.safe_load_all(package.content))
    parsed = json_format.ParseDict(config, KubernetesExecutorConfig())  # fails for an unknown field
    assert json_format.MessageToDict(parsed) == config


def test_no_field_makes_the_root_file_system_read_only() -> None:
    context = KubernetesExecutorConfig.DESCRIPTOR.fields_by_name["security_context"].message_type
    assert [field.name for field in context.fields] == ["run_as_user", "run_as_group", "run_as_non_root"]
