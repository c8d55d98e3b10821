"""What the view of a cluster keeps of an object: what is read of it, and nothing that changes without being read."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from windlass.kube.kinds import CLUSTER_QUEUE, COHORT, LOCAL_QUEUE, NODE, POD, POOL, PROJECT, WORKLOAD
from windlass.kube.names import project_of
from windlass.kube.objects import Kind, Object

PODS_OF_WORKLOADS: Final = "kueue.x-k8s.io/podset"
"""Kueue's label on the pods of what it has admitted."""
WORKLOAD_OF_POD: Final = "kueue.x-k8s.io/workload"
"""Kueue's annotation on them: their workload."""
_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
)


def slim(subject: Object) -> Object | None:
    """Return the part of an object that is read; None of a pod that is no project's.

    What is not built as its kind should be is kept as it is: whoever reads it will say so.
    """
    metadata = subject["metadata"]
    kind = Kind.of(subject)
    if kind == POD and project_of(metadata.get("namespace", "")) is None:
        return None
    kept = {name: metadata[name] for name in _METADATA if name in metadata}
    try:
        more, parts = _RULES[kind](subject)
    except (AttributeError, KeyError, TypeError):
        more, parts = {}, {name: subject[name] for name in ("spec", "status") if name in subject}
    return {"apiVersion": subject["apiVersion"], "kind": subject["kind"], "metadata": kept | more, **parts}


def _only(value: Mapping[str, Any] | None, *names: str) -> Object:
    return {name: value[name] for name in names if name in value} if value else {}


def _conditions(status: Mapping[str, Any], *types: str) -> Object:
    found = [one for one in status.get("conditions") or () if one["type"] in types]
    return {"conditions": found} if found else {}


def _owners(subject: Object) -> Object:
    owners = subject["metadata"].get("ownerReferences")
    return {"ownerReferences": [_only(one, "kind", "name", "uid", "controller") for one in owners]} if owners else {}


def _pool(subject: Object) -> tuple[Object, Object]:
    status = subject.get("status") or {}
    kept = _only(status, "capacity", "nodes", "readyNodes", "allocatable") | _conditions(status, "Ready")
    return {}, {"spec": subject["spec"], "status": kept}


def _project(subject: Object) -> tuple[Object, Object]:
    """Of who owns which fields only whose they are of the spec: a status is written often, and not read here."""
    entries = [
        _only(one, "manager", "operation") | {"fieldsV1": {"f:spec": one["fieldsV1"]["f:spec"]}}
        for one in subject["metadata"].get("managedFields") or ()
        if not one.get("subresource") and "f:spec" in (one.get("fieldsV1") or {})
    ]
    return {"managedFields": entries}, {"spec": subject.get("spec") or {}}


def _queue(subject: Object) -> tuple[Object, Object]:
    labels = _only(subject["metadata"], "labels")
    return labels, {"spec": subject["spec"], "status": _conditions(subject.get("status") or {}, "Active")}


def _cohort(subject: Object) -> tuple[Object, Object]:
    return {}, {"spec": _only(subject.get("spec"), "parentName", "resourceGroups")}


def _workload(subject: Object) -> tuple[Object, Object]:
    spec, status = subject["spec"], subject.get("status") or {}
    sets = [_pod_set(one) for one in spec.get("podSets") or ()]
    read = ("admission", "conditions", "reclaimablePods", "admissionChecks", "requeueState")
    kept = _only(spec, "queueName", "priority", "active") | {"podSets": sets}
    return _owners(subject), {"spec": kept, "status": _only(status, *read)}


def _pod_set(one: Mapping[str, Any]) -> Object:
    spec = one["template"].get("spec") or {}
    lists = ("containers", "initContainers")
    containers = {
        each: [_only(container, "name", "restartPolicy", "resources") for container in spec[each]]
        for each in lists
        if spec.get(each)
    }
    return _only(one, "name", "count") | {"template": {"spec": containers}}


def _pod(subject: Object) -> tuple[Object, Object]:
    status = subject.get("status") or {}
    note = _only(subject["metadata"].get("annotations"), WORKLOAD_OF_POD)
    kept = _only(status, "phase", "reason", "message") | _conditions(status, "PodScheduled", "DisruptionTarget")
    for each in ("initContainerStatuses", "containerStatuses"):
        if found := status.get(each):
            kept[each] = [_only(one, "name", "image", "ready", "restartCount", "state") for one in found]
    more = _owners(subject) | ({"annotations": note} if note else {})
    return more, {"spec": _only(subject.get("spec"), "nodeName"), "status": kept}


def _node(subject: Object) -> tuple[Object, Object]:
    ready = _conditions(subject.get("status") or {}, "Ready").get("conditions", ())
    # a heartbeat is a change of its time alone
    kept = {"conditions": [_only(one, "type", "status", "reason", "message", "lastTransitionTime") for one in ready]}
    return {}, {"spec": _only(subject.get("spec"), "unschedulable"), "status": kept}


_RULES: Final[Mapping[Kind, Callable[[Object], tuple[Object, Object]]]] = {
    CLUSTER_QUEUE: _queue,
    COHORT: _cohort,
    LOCAL_QUEUE: _queue,
    NODE: _node,
    POD: _pod,
    POOL: _pool,
    PROJECT: _project,
    WORKLOAD: _workload,
}
"""More of the metadata, and the parts beside it."""
