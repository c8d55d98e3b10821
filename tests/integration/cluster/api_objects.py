"""API paths of objects, and create, patch and delete over one connection."""

from http import HTTPStatus
from typing import Any

from tests.testcluster.cluster_api import ClusterApi

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
"""API path by kind; ``{}`` is the namespace."""
_MERGE = "application/merge-patch+json"


def object_path(kind: str, name: str = "", space: str = "") -> str:
    """The path of an object, or of a kind's collection in a namespace."""
    path = PATHS[kind].format(space)
    return f"{path}/{name}" if name else path


def create(api: ClusterApi, one: Json, *, may_exist: bool = False) -> None:
    status, text = api.call("POST", object_path(one["kind"], space=one["metadata"].get("namespace", "")), one)
    assert status == HTTPStatus.CREATED or (may_exist and status == HTTPStatus.CONFLICT), text


def patch(api: ClusterApi, path: str, change: Json, *, may_conflict: bool = False) -> None:
    status, text = api.call("PATCH", path, change, _MERGE)
    assert status == HTTPStatus.OK or (may_conflict and status == HTTPStatus.CONFLICT), text


def delete(api: ClusterApi, path: str, **options: Any) -> None:
    """Delete an object or a collection; ignores missing ones."""
    status, text = api.call("DELETE", path, options or None)
    assert status in {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND}, text
