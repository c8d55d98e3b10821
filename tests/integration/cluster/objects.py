"""Kubernetes objects of the test cluster's own tests."""

from typing import Any

from tests.testcluster.fake_nodes import FAKE, RUN_FOR
from tests.testcluster.layout import NODE
from tests.testcluster.node import GPU, POOL_LABEL

Json = dict[str, Any]
ECHO_IMAGE = "bed.local/pause:v1"
"""Prints its arguments and exits."""
QUEUE = "kueue.x-k8s.io/v1beta2"


def namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def pod(where: str, image: str, command: list[str]) -> Json:
    """A pod named ``runs`` that runs a command on the real node, with an imported image."""
    container = {"name": "main", "image": image, "command": command, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "runs", "namespace": where},
        "spec": {"nodeName": NODE, "restartPolicy": "Never", "containers": [container]},
    }


def queue(where: str, pool: str, gpus: int) -> list[Json]:
    """A queue of one namespace with GPUs of one pool."""
    tolerations = [{"key": GPU, "operator": "Exists"}, {"key": FAKE, "operator": "Exists"}]
    flavors = [{"name": pool, "resources": [{"name": GPU, "nominalQuota": gpus}]}]
    return [
        {
            "apiVersion": QUEUE,
            "kind": "ResourceFlavor",
            "metadata": {"name": pool},
            "spec": {"nodeLabels": {POOL_LABEL: pool}, "tolerations": tolerations},
        },
        {
            "apiVersion": QUEUE,
            "kind": "ClusterQueue",
            "metadata": {"name": where},
            "spec": {"namespaceSelector": {}, "resourceGroups": [{"coveredResources": [GPU], "flavors": flavors}]},
        },
        {
            "apiVersion": QUEUE,
            "kind": "LocalQueue",
            "metadata": {"name": "main", "namespace": where},
            "spec": {"clusterQueue": where},
        },
    ]


def queued_job(where: str, name: str, gpus: int, run_for: str) -> Json:
    """A suspended Job in a queue, which runs on a fake node for the given time."""
    amounts = {"cpu": "1", "memory": "1Gi", GPU: str(gpus)}
    container = {"name": "main", "image": "no-node-pulls-it", "resources": {"requests": amounts, "limits": amounts}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": where, "labels": {"kueue.x-k8s.io/queue-name": "main"}},
        "spec": {
            "suspend": True,
            "template": {
                "metadata": {"annotations": {RUN_FOR: run_for}},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            },
        },
    }
