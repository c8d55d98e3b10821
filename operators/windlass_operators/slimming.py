"""What the operators keep of an object: nodes and workloads are many, and mostly of no interest."""

from collections.abc import Callable, Mapping

from windlass.kube.kinds import NODE, WORKLOAD
from windlass.kube.objects import Kind, Object
from windlass.kube.store import without_managed_fields


def slim(subject: Object) -> Object:
    """Return what the operators need of an object."""
    whole = without_managed_fields(subject)
    if reduce := _SLIM.get(Kind.of(subject)):
        whole["metadata"].pop("annotations", None)
        return {name: whole[name] for name in ("apiVersion", "kind", "metadata")} | reduce(subject)
    return whole


def _node(subject: Object) -> Object:
    status, spec = subject.get("status", {}), subject.get("spec", {})
    ready = [one for one in status.get("conditions", ()) if one["type"] == "Ready"]
    return {
        "spec": {"unschedulable": spec.get("unschedulable", False)},
        "status": {"capacity": status.get("capacity", {}), "allocatable": status.get("allocatable", {})}
        | {"conditions": ready},
    }


def _workload(subject: Object) -> Object:
    spec, status = subject.get("spec", {}), subject.get("status", {})
    spec = {name: spec[name] for name in ("queueName", "priority", "active") if name in spec}
    kept = ("admission", "conditions", "resourceRequests")
    return {"spec": spec, "status": {name: status[name] for name in kept if name in status}}


_SLIM: Mapping[Kind, Callable[[Object], Object]] = {NODE: _node, WORKLOAD: _workload}
