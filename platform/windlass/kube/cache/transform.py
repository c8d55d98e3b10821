"""The transforms of the cache: strip objects to the fields that are read, so that other changes are ignored.

Numerous objects (nodes, pods, Workloads) are stored alike everywhere. The control plane reads only a part of the other
kinds; the operators also compare and write them, and need all fields but the noisy ones.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from windlass.kube.kinds import (
    CLUSTER_QUEUE,
    COHORT,
    LOCAL_QUEUE,
    NODE,
    POD,
    POOL,
    PROJECT,
    RAY_JOB,
    RAY_SERVICE,
    RESOURCE_QUOTA,
    WORKLOAD,
)
from windlass.kube.names import APPLICATION_ANNOTATION, SLICE_REPLACEMENT_ANNOTATION, project_of
from windlass.kube.objects import Kind, Object

PODSET_LABEL: Final = "kueue.x-k8s.io/podset"
"""Kueue's label on the pods of admitted workloads."""
WORKLOAD_ANNOTATION: Final = "kueue.x-k8s.io/workload"
"""Kueue's annotation on them with the name of their workload."""
_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
)


def strip_managed_fields(subject: Object) -> Object:
    """Return an object without ``metadata.managedFields``, which is often larger than the rest."""
    metadata = {name: value for name, value in subject["metadata"].items() if name != "managedFields"}
    return subject | {"metadata": metadata}


def transform_for_operators(subject: Object) -> Object | None:
    """Return the fields of an object that the operators read, compare or write."""
    kind = Kind.of(subject)
    if kind in _NUMEROUS:
        return transform(subject)
    stripped = strip_managed_fields(subject)
    if kind in _NOISY_STATUS and isinstance(status := subject.get("status"), dict):
        # counts of workloads and pods, which each admission changes several times
        stripped["status"] = _pick(status, "conditions")
    return stripped


def transform(subject: Object) -> Object | None:
    """Return the fields of an object that the control plane reads; None for a pod outside the projects' namespaces.

    A malformed object keeps its spec and status; its parser reports the error.
    """
    metadata = subject["metadata"]
    kind = Kind.of(subject)
    if kind == POD and project_of(metadata.get("namespace", "")) is None:
        return None
    fields = _pick(metadata, *_METADATA)
    try:
        metadata_fields, parts = _TRANSFORMS[kind](subject)
    except (AttributeError, KeyError, TypeError):
        metadata_fields, parts = {}, _pick(subject, "spec", "status")
    return {
        "apiVersion": subject["apiVersion"],
        "kind": subject["kind"],
        "metadata": fields | metadata_fields,
        **parts,
    }


def _pick(value: Mapping[str, Any] | None, *names: str) -> Object:
    return {name: value[name] for name in names if name in value} if value else {}


def _conditions(status: Mapping[str, Any], *types: str) -> Object:
    conditions = [condition for condition in status.get("conditions") or () if condition["type"] in types]
    return {"conditions": conditions} if conditions else {}


def _owners(subject: Object) -> Object:
    owners = subject["metadata"].get("ownerReferences")
    if not owners:
        return {}
    return {"ownerReferences": [_pick(owner, "kind", "name", "uid", "controller") for owner in owners]}


def _pool(subject: Object) -> tuple[Object, Object]:
    status = subject.get("status") or {}
    fields = _pick(status, "capacity", "nodes", "readyNodes", "allocatable", "gpuMemory") | _conditions(status, "Ready")
    return {}, {"spec": subject["spec"], "status": fields}


def _project(subject: Object) -> tuple[Object, Object]:
    """Keep the spec and its field owners; the status changes often and is not read."""
    entries = [
        _pick(entry, "manager", "operation") | {"fieldsV1": {"f:spec": entry["fieldsV1"]["f:spec"]}}
        for entry in subject["metadata"].get("managedFields") or ()
        if not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or {})
    ]
    return {"managedFields": entries}, {"spec": subject.get("spec") or {}}


def _queue(subject: Object) -> tuple[Object, Object]:
    labels = _pick(subject["metadata"], "labels")
    return labels, {"spec": subject["spec"], "status": _conditions(subject.get("status") or {}, "Active")}


def _cohort(subject: Object) -> tuple[Object, Object]:
    return {}, {"spec": _pick(subject.get("spec"), "parentName", "resourceGroups")}


def _workload(subject: Object) -> tuple[Object, Object]:
    spec, status = subject["spec"], subject.get("status") or {}
    pod_sets = [_pod_set(pod_set) for pod_set in spec.get("podSets") or ()]
    status_fields = ("admission", "conditions", "reclaimablePods", "admissionChecks", "requeueState")
    fields = _pick(spec, "queueName", "priority", "active") | {"podSets": pod_sets}
    return _owners(subject) | _annotations(subject, SLICE_REPLACEMENT_ANNOTATION), {
        "spec": fields,
        "status": _pick(status, *status_fields),
    }


def _pod_set(pod_set: Mapping[str, Any]) -> Object:
    return _pick(pod_set, "name", "count") | {"template": {"spec": _requests(pod_set["template"].get("spec") or {})}}


def _requests(pod_spec: Mapping[str, Any]) -> Object:
    return {
        name: [_pick(container, "name", "restartPolicy", "resources") for container in pod_spec[name]]
        for name in ("containers", "initContainers")
        if pod_spec.get(name)
    }


def _annotations(subject: Object, *names: str) -> Object:
    annotations = _pick(subject["metadata"].get("annotations"), *names)
    return {"annotations": annotations} if annotations else {}


def _pod(subject: Object) -> tuple[Object, Object]:
    status = subject.get("status") or {}
    fields = _pick(status, "phase", "reason", "message") | _conditions(status, "PodScheduled", "DisruptionTarget")
    for name in ("initContainerStatuses", "containerStatuses"):
        if statuses := status.get(name):
            fields[name] = [
                _pick(container, "name", "image", "ready", "restartCount", "state", "lastState")
                for container in statuses
            ]
    metadata_fields = _owners(subject) | _annotations(subject, WORKLOAD_ANNOTATION)
    spec = subject.get("spec") or {}
    return metadata_fields, {"spec": _pick(spec, "nodeName") | _requests(spec), "status": fields}


def _ray_job(subject: Object) -> tuple[Object, Object]:
    """Keep what explains a waiting job; an ended one has up to 20,000 characters of output in its message."""
    conditions = _conditions((subject.get("status") or {}).get("rayClusterStatus") or {}, "ReplicaFailure")
    return {}, {"status": {"rayClusterStatus": conditions} if conditions else {}}


def _ray_service(subject: Object) -> tuple[Object, Object]:
    """Keep which application it serves; the rest is read by the serving back end."""
    return _annotations(subject, APPLICATION_ANNOTATION), {}


def _node(subject: Object) -> tuple[Object, Object]:
    status = subject.get("status") or {}
    ready = _conditions(status, "Ready").get("conditions", ())
    # without lastHeartbeatTime, or every heartbeat would be a change
    names = ("type", "status", "reason", "message", "lastTransitionTime")
    fields = {"conditions": [_pick(condition, *names) for condition in ready]}
    amounts = _pick(status, "capacity", "allocatable")
    spec = _pick(subject.get("spec"), "unschedulable", "taints")
    return _pick(subject["metadata"], "labels"), {"spec": spec, "status": amounts | fields}


_TRANSFORMS: Final[Mapping[Kind, Callable[[Object], tuple[Object, Object]]]] = {
    CLUSTER_QUEUE: _queue,
    COHORT: _cohort,
    LOCAL_QUEUE: _queue,
    NODE: _node,
    POD: _pod,
    POOL: _pool,
    PROJECT: _project,
    RAY_JOB: _ray_job,
    RAY_SERVICE: _ray_service,
    WORKLOAD: _workload,
}
"""Each returns additional metadata fields, and spec and status."""

_NUMEROUS: Final = frozenset({NODE, POD, WORKLOAD})
_NOISY_STATUS: Final = frozenset({CLUSTER_QUEUE, COHORT, LOCAL_QUEUE, RESOURCE_QUOTA})
