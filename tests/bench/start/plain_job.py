"""A Kubernetes Job of one pod that does an optimizer step without Ray, Windlass and Kueue."""

import time
from functools import partial

from tests.bench.start.bare_ray_job import FOLDER, NAMESPACE, SCRIPT, first_step, pod_template, prepare
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, Json, apply, kubectl
from tests.testcluster.layout import LocalCluster
from tests.testcluster.node import GPU

_NAME = "plain"
_TIMEOUT_SECONDS = 120
_JOB = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{_NAME}"


def seconds_to_first_step(cluster: LocalCluster) -> float:
    """Create the Job, and return the time until its first optimizer step by the clock of this machine.

    Raises:
        AssertionError: it did not succeed within two minutes.
    """
    prepare(cluster)
    began = time.time()
    apply(cluster, [_job()])
    try:
        with ClusterApi(cluster) as api:
            eventually(partial(_succeeded, api), "the Job has succeeded", _TIMEOUT_SECONDS)
        output = kubectl(cluster, "-n", NAMESPACE, "logs", f"job/{_NAME}", "--tail=-1")
    finally:
        kubectl(cluster, "-n", NAMESPACE, "delete", "job", _NAME, "--cascade=foreground")
    return first_step(output) - began


def _succeeded(api: ClusterApi) -> bool:
    return bool((api.read(_JOB) or {}).get("status", {}).get("succeeded"))


def _job() -> Json:
    template = pod_template("trainer", {GPU: "1"})
    template["spec"]["restartPolicy"] = "Never"
    template["spec"]["containers"][0]["command"] = ["python", f"{FOLDER}/{SCRIPT.name}", "--plain"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _NAME, "namespace": NAMESPACE},
        "spec": {"backoffLimit": 0, "template": template},
    }
