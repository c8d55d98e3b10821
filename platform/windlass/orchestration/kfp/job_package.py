"""The compiled pipeline that users submit to a Kubeflow Pipelines server, with the spec of a job as its parameter.

``submit_job.yaml`` is the output of the compiler, which ``make docs`` writes.
"""

from importlib import resources
from typing import Any, Final

import yaml

from windlass.orchestration.kfp.package import PipelinePackage, StepPod, restricted_pod

KEY_PARAMETER: Final = "key_secret"
KEY_NAME: Final = "key"
"""Key of the API key in the Secret that the parameter names."""
_KEY_VARIABLE: Final = "WINDLASS_KEY"
"""Environment variable from which ``windlass.sdk.Client`` reads the API key."""
_EXECUTOR: Final = "exec-submit-job"


def render_job_package(pod: StepPod, url: str) -> PipelinePackage:
    """Return the package. ``url``: of the Windlass API for pods, the default of a parameter; empty: it is required."""
    template = resources.files(__package__).joinpath("submit_job.yaml").read_text("utf-8")
    spec: dict[str, Any] = yaml.safe_load(template)
    container = spec["deploymentSpec"]["executors"][_EXECUTOR]["container"]
    container["image"] = pod.image
    container["env"] = [{"name": "HOME", "value": pod.workspace_path}]
    container["resources"] = pod.resources()
    if url:
        spec["root"]["inputDefinitions"]["parameters"]["url"] |= {"defaultValue": url, "isOptional": True}
    key = {
        "secretNameParameter": {"componentInputParameter": KEY_PARAMETER},
        "keyToEnv": [{"secretKey": KEY_NAME, "envVar": _KEY_VARIABLE}],
        "optional": False,
    }
    return PipelinePackage.of(spec, _EXECUTOR, {"secretAsEnv": [key], **restricted_pod(pod)})
