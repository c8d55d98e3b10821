"""A RayJob with KubeRay's defaults (submitter pod, head, one worker), without Windlass and Kueue."""

import json
import time
from functools import partial
from pathlib import Path

from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, Json, apply, kubectl
from tests.testcluster.layout import LocalCluster
from tests.testcluster.node import GPU, POOL, POOL_LABEL

NAMESPACE = "bench-start"
_NAME = "bare"
_IMAGE = "bed.local/windlass/ray:dev"
SCRIPT = Path(__file__).parent / "one_step.py"
FOLDER = "/bench"
_TIMEOUT_SECONDS = 300
_RAY_JOB = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayjobs/{_NAME}"


def seconds_to_first_step(cluster: LocalCluster, ray_version: str) -> float:
    """Create the RayJob, and return the time until its first optimizer step by the clock of this machine.

    Raises:
        AssertionError: it did not end within five minutes, or it failed.
    """
    prepare(cluster)
    began = time.time()
    apply(cluster, [_ray_job(ray_version)])
    try:
        with ClusterApi(cluster) as api:
            eventually(partial(_ended, api), "the RayJob has ended", _TIMEOUT_SECONDS)
            status = (api.read(_RAY_JOB) or {}).get("status", {})
        assert status.get("jobStatus") == "SUCCEEDED", status
        output = kubectl(cluster, "-n", NAMESPACE, "logs", f"job/{_NAME}", "--tail=-1")
    finally:
        kubectl(cluster, "-n", NAMESPACE, "delete", "rayjob", _NAME, "--cascade=foreground")
    return first_step(output) - began


def first_step(output: str) -> float:
    """The time of the first optimizer step, as printed by the program."""
    [line] = [line for line in output.splitlines() if line.startswith('{"first_step"')]
    return float(json.loads(line)["first_step"])


def _ended(api: ClusterApi) -> bool:
    status = (api.read(_RAY_JOB) or {}).get("status", {})
    return status.get("jobDeploymentStatus") in {"Complete", "Failed"}


def prepare(cluster: LocalCluster) -> None:
    """Create the namespace, and the program that both peers run."""
    apply(cluster, [_namespace(), _script()])


def _namespace() -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def _script() -> Json:
    metadata = {"name": "script", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {SCRIPT.name: SCRIPT.read_text()}}


def _ray_job(ray_version: str) -> Json:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": _NAME, "namespace": NAMESPACE},
        "spec": {
            "entrypoint": f"python {FOLDER}/{SCRIPT.name}",
            "rayClusterSpec": {
                "rayVersion": ray_version,
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": pod_template("ray-head", {})},
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": 1,
                        "minReplicas": 1,
                        "maxReplicas": 1,
                        "rayStartParams": {"num-cpus": "1"},
                        "template": pod_template("ray-worker", {GPU: "1"}),
                    }
                ],
            },
        },
    }


def pod_template(container: str, gpus: Json) -> Json:
    """The template of a pod of the image on the real node, with the program at ``FOLDER``."""
    amounts = {"cpu": "200m", "memory": "3Gi"} | gpus
    return {
        "spec": {
            "nodeSelector": {POOL_LABEL: POOL},
            "containers": [
                {
                    "name": container,
                    "image": _IMAGE,
                    "imagePullPolicy": "Never",
                    "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - the pod's own
                    "resources": {"requests": amounts, "limits": {**amounts, "cpu": "2"}},
                    "volumeMounts": [{"name": "script", "mountPath": FOLDER}],
                }
            ],
            "volumes": [{"name": "script", "configMap": {"name": "script"}}],
        }
    }
