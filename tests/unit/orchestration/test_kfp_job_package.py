"""The package of the pipeline that users submit to a Kubeflow Pipelines server."""

from pathlib import Path

import yaml
from kfp import compiler
from tests.architecture.tree import ROOT

from windlass.orchestration.kfp.job_package import KEY_PARAMETER, render_job_package
from windlass.orchestration.kfp.package import StepPod
from windlass_pipelines.definitions.submit_job import submit_job_on_server

TEMPLATE = ROOT / "platform/windlass/orchestration/kfp/submit_job.yaml"


def test_the_template_is_the_output_of_the_compiler(tmp_path: Path) -> None:
    out = tmp_path / "submit_job.yaml"
    compiler.Compiler().compile(submit_job_on_server("IMAGE"), str(out))
    assert TEMPLATE.read_text() == out.read_text(), "run `make docs`"


def test_the_key_is_in_a_secret_that_a_parameter_names() -> None:
    spec, platform = yaml.safe_load_all(render_job_package(StepPod(image="pipelines:1"), "").content)
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-submit-job"]
    [key] = settings["secretAsEnv"]
    assert key["secretNameParameter"] == {"componentInputParameter": KEY_PARAMETER}
    assert key["keyToEnv"] == [{"secretKey": "key", "envVar": "WINDLASS_KEY"}]
    assert settings["securityContext"]["runAsNonRoot"] is True
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert sorted(name for name, each in parameters.items() if not each.get("isOptional")) == ["job", "url"]
