"""The compiled pipeline for a Kubeflow Pipelines server, with the settings of an installation.

``fine_tune.yaml`` is the output of the compiler, which ``make docs`` writes: the control plane has no kfp. The settings
of the pod are those that kfp-kubernetes would write (its ``kubernetes_executor_config``).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, Self

import yaml

from windlass import __version__
from windlass.kit.ca_bundle import CA_BUNDLE_FILE, CA_BUNDLE_VARIABLE
from windlass.runtime.context import CONTEXT_NAME, CONTEXT_VARIABLE, KFP_RUN_ID_VARIABLE, WORKSPACE_VARIABLE

PIPELINE_NAME: Final = "windlass-fine-tune"
STEP: Final = "fine-tune"
SECRET_PARAMETER: Final = "secret"  # noqa: S105 - the name of a parameter
_EXECUTOR: Final = f"exec-{STEP}"
_USER: Final = "1000"
"""The user of the project's images."""


@dataclass(frozen=True)
class StepPod:
    """What an installation sets for the pod of the step."""

    image: str
    cpu_request: str = "250m"
    cpu_limit: str = "2000m"
    memory: str = "768Mi"
    variables: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    """All runs share one version of the pipeline, so that a label cannot have a value of a run."""
    context_path: str = "/run/windlass/context"
    workspace_path: str = "/workspace"

    def resources(self) -> dict[str, str]:
        """Return the resources of the container, in the words of the pipeline specification."""
        return {
            "resourceCpuRequest": self.cpu_request,
            "resourceCpuLimit": self.cpu_limit,
            "resourceMemoryRequest": self.memory,
            "resourceMemoryLimit": self.memory,
        }


@dataclass(frozen=True)
class PipelinePackage:
    """A package as it is uploaded."""

    content: bytes

    @classmethod
    def of(cls, spec: Mapping[str, Any], executor: str, pod: Mapping[str, Any]) -> Self:
        """Return the package of a specification, with the settings of the pod that it has no fields for."""
        platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {executor: dict(pod)}}}}}
        return cls(yaml.safe_dump_all([dict(spec), platform], sort_keys=True).encode())

    @property
    def version(self) -> str:
        """The name of the version: the release, and the hash of the content."""
        return f"{__version__}-{hashlib.sha256(self.content).hexdigest()[:12]}"


def render_package(pod: StepPod) -> PipelinePackage:
    """Return the package: the same content for the same settings and release."""
    template = resources.files(__package__).joinpath("fine_tune.yaml").read_text("utf-8")
    spec = yaml.safe_load(template)
    container = spec["deploymentSpec"]["executors"][_EXECUTOR]["container"]
    container["image"] = pod.image
    variables = {
        "HOME": pod.workspace_path,
        CONTEXT_VARIABLE: f"{pod.context_path}/{CONTEXT_NAME}",
        WORKSPACE_VARIABLE: pod.workspace_path,
        CA_BUNDLE_VARIABLE: f"{pod.context_path}/{CA_BUNDLE_FILE}",
        **pod.variables,
    }
    container["env"] = [{"name": name, "value": value} for name, value in variables.items()]
    container["resources"] = pod.resources()
    context = {
        "mountPath": pod.context_path,
        "optional": False,
        "secretNameParameter": {"componentInputParameter": SECRET_PARAMETER},
    }
    return PipelinePackage.of(spec, _EXECUTOR, {"secretAsVolume": [context], **restricted_pod(pod)})


def restricted_pod(pod: StepPod) -> dict[str, Any]:
    """Return what the pods of all steps have: labels, scratch space, the id of their run, a user without privileges.

    The root file system cannot be made read-only: the security context of the specification has only these fields.
    """
    return {
        **({"podMetadata": {"labels": dict(pod.labels)}} if pod.labels else {}),
        "emptyDirMounts": [{"volumeName": "workspace", "mountPath": pod.workspace_path}],
        "fieldPathAsEnv": [{"name": KFP_RUN_ID_VARIABLE, "fieldPath": "metadata.labels['pipeline/runid']"}],
        # The server drops all capabilities and forbids privilege escalation by itself.
        "securityContext": {"runAsUser": _USER, "runAsGroup": _USER, "runAsNonRoot": True},
    }
