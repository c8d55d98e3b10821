"""Where objects stand in the API, and how tests create and change them: over one connection, unlike a kubectl each."""

from http import HTTPStatus
from typing import Any

from tests.bed.cluster_api import ClusterApi

Json = dict[str, Any]
KUEUE = "/apis/kueue.x-k8s.io/v1beta2"
PATHS = {
    "ClusterQueue": f"{KUEUE}/clusterqueues",
    "Cohort": f"{KUEUE}/cohorts",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "LocalQueue": f"{KUEUE}/namespaces/{{}}/localqueues",
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/namespaces/{}/pods",
    "RayJob": "/apis/ray.io/v1/namespaces/{}/rayjobs",
    "ResourceFlavor": f"{KUEUE}/resourceflavors",
    "Workload": f"{KUEUE}/namespaces/{{}}/workloads",
    "WorkloadPriorityClass": f"{KUEUE}/workloadpriorityclasses",
}
"""By kind; where a namespace belongs stands ``{}``."""
_MERGE = "application/merge-patch+json"


def path_of(kind: str, name: str = "", space: str = "") -> str:
    """The path of an object, or of all of a kind in a namespace."""
    found = PATHS[kind].format(space)
    return f"{found}/{name}" if name else found


def create(api: ClusterApi, one: Json, *, may_exist: bool = False) -> None:
    status, text = api.call("POST", path_of(one["kind"], space=one["metadata"].get("namespace", "")), one)
    assert status == HTTPStatus.CREATED or (may_exist and status == HTTPStatus.CONFLICT), text


def patch(api: ClusterApi, path: str, change: Json, *, may_conflict: bool = False) -> None:
    status, text = api.call("PATCH", path, change, _MERGE)
    assert status == HTTPStatus.OK or (may_conflict and status == HTTPStatus.CONFLICT), text


def delete(api: ClusterApi, path: str, **options: Any) -> None:
    """Delete an object, or a collection; what is gone already is fine."""
    status, text = api.call("DELETE", path, options or None)
    assert status in {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND}, text
