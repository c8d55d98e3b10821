"""The Job that runs a step of the fake server: driver and executor as one pod.

It has what KFP 2.17 makes of a compiled component and its ``kubernetes_executor_config``: the command with the executor
input, inputs from the parameters of the run, and the volumes, variables and security context of the platform spec.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from tests.fakes.kfp.launcher import OUTPUT_FILE

RUN_LABEL = "pipeline/runid"
_INPUT = "{{$}}"
_SCRATCH = ("/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config")
"""The server mounts an emptyDir at each, since a step writes its artifacts below a folder named after their scheme."""
_GRACE_SECONDS = 5


@dataclass(frozen=True)
class PipelineStep:
    """A step of a run."""

    run_id: str
    name: str
    node: str
    """Id of its executor, and name of its Job."""
    documents: list[dict[str, Any]]
    """Of the package: the pipeline, and the settings of the platform."""
    parameters: Mapping[str, Any]
    """That the run was created with."""
    service_account: str

    @property
    def task(self) -> dict[str, Any]:
        return dict(self.documents[0]["root"]["dag"]["tasks"][self.name])

    @property
    def component(self) -> dict[str, Any]:
        return dict(self.documents[0]["components"][self.task["componentRef"]["name"]])

    def run_parameter(self, name: str) -> Any:
        """Return a parameter of the run, or its default."""
        defined = self.documents[0]["root"]["inputDefinitions"]["parameters"][name]
        return self.parameters.get(name, defined.get("defaultValue"))

    def executor_input(self) -> dict[str, Any]:
        inputs = {
            name: self.run_parameter(source["componentInputParameter"])
            for name, source in self.task.get("inputs", {}).get("parameters", {}).items()
        }
        outputs = self.component.get("outputDefinitions", {})
        artifacts = {
            name: {
                "artifacts": [
                    {"name": name, "type": each["artifactType"], "uri": f"s3://kfp/{self.run_id}/{self.name}/{name}"}
                ]
            }
            for name, each in outputs.get("artifacts", {}).items()
        }
        parameters = {
            name: {"outputFile": f"/tmp/kfp/outputs/{name}"}  # noqa: S108 - in the pod
            for name in outputs.get("parameters", {})
        }
        return {
            "inputs": {"parameterValues": inputs},
            "outputs": {"artifacts": artifacts, "parameters": parameters, "outputFile": OUTPUT_FILE},
        }


def step_job(step: PipelineStep, namespace: str) -> dict[str, Any]:
    """Return the manifest of the Job."""
    executor = step.component["executorLabel"]
    container = step.documents[0]["deploymentSpec"]["executors"][executor]["container"]
    platform: dict[str, Any] = {}
    if len(step.documents) > 1:
        executors = step.documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        platform = executors.get(executor, {})
    command = [*container.get("command", ()), *container.get("args", ())]
    command = [json.dumps(step.executor_input()) if each == _INPUT else each for each in command]
    program = resources.files(__package__).joinpath("launcher.py").read_text("utf-8")
    volumes, mounts = _volumes(step, platform)
    labels = {RUN_LABEL: step.run_id, **platform.get("podMetadata", {}).get("labels", {})}
    annotations = platform.get("podMetadata", {}).get("annotations", {})
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": step.service_account,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "volumes": volumes,
        "containers": [
            {
                "name": "main",
                "image": container["image"],
                "command": ["python3", "-c", program, *command],
                "env": [*container.get("env", ()), *_variables(step, platform)],
                "resources": _resources(container.get("resources", {})),
                "securityContext": _security_context(platform),
                "volumeMounts": mounts,
            }
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": step.node, "namespace": namespace, "labels": {RUN_LABEL: step.run_id}},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
        },
    }


def _volumes(step: PipelineStep, platform: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = []
    paths = [*_SCRATCH, *(each["mountPath"] for each in platform.get("emptyDirMounts", ()))]
    volumes += [{"name": f"scratch-{number}", "emptyDir": {}} for number in range(len(paths))]
    mounts = [{"name": f"scratch-{number}", "mountPath": path} for number, path in enumerate(paths)]
    for number, each in enumerate(platform.get("secretAsVolume", ())):
        secret = {"secretName": _secret_name(step, each), "optional": each.get("optional", False)}
        volumes.append({"name": f"secret-{number}", "secret": secret})
        mounts.append({"name": f"secret-{number}", "mountPath": each["mountPath"]})
    return volumes, mounts


def _variables(step: PipelineStep, platform: Mapping[str, Any]) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = [
        {"name": each["name"], "valueFrom": {"fieldRef": {"fieldPath": each["fieldPath"]}}}
        for each in platform.get("fieldPathAsEnv", ())
    ]
    for secret in platform.get("secretAsEnv", ()):
        for key in secret["keyToEnv"]:
            reference = {
                "name": _secret_name(step, secret),
                "key": key["secretKey"],
                "optional": secret.get("optional", False),
            }
            variables.append({"name": key["envVar"], "valueFrom": {"secretKeyRef": reference}})
    return variables


def _secret_name(step: PipelineStep, secret: Mapping[str, Any]) -> str:
    return str(step.run_parameter(secret["secretNameParameter"]["componentInputParameter"]))


def _resources(declared: Mapping[str, str]) -> dict[str, Any]:
    names = {"Cpu": "cpu", "Memory": "memory"}
    return {
        kind: {
            name: declared[f"resource{word}{suffix}"]
            for word, name in names.items()
            if f"resource{word}{suffix}" in declared
        }
        for kind, suffix in (("requests", "Request"), ("limits", "Limit"))
    }


def _security_context(platform: Mapping[str, Any]) -> dict[str, Any]:
    declared = platform.get("securityContext", {})
    ids = {name: int(declared[name]) for name in ("runAsUser", "runAsGroup") if name in declared}
    flags = {name: declared[name] for name in ("runAsNonRoot",) if name in declared}
    return {**ids, **flags, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
