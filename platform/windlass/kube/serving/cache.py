"""The transform of the serving cache: RayServices without pod templates, pods by the fields that explain them."""

from collections.abc import Mapping
from typing import Any, Final

from windlass.kube.cache.transform import strip_managed_fields
from windlass.kube.cache.transform import transform as transform_shared
from windlass.kube.kinds import POD, RAY_SERVICE
from windlass.kube.objects import Kind, Object

_SERVICE_STATUS: Final = ("conditions", "numServeEndpoints")
_CLUSTER_STATUS: Final = ("applicationStatuses", "rayClusterName")


def transform(subject: Object) -> Object | None:
    """Return the fields of an object that the serving back end reads."""
    kind = Kind.of(subject)
    if kind == POD:
        reduced = transform_shared(subject)
        labels = subject["metadata"].get("labels") or {}
        return None if reduced is None else reduced | {"metadata": reduced["metadata"] | {"labels": labels}}
    stripped = strip_managed_fields(subject)
    return _service(stripped) if kind == RAY_SERVICE else stripped


def _service(subject: Object) -> Object:
    """Keep of the spec only what Kueue sets, and no times that change with every reconciliation of KubeRay."""
    status: Mapping[str, Any] = subject.get("status") or {}
    reduced = {name: status[name] for name in _SERVICE_STATUS if name in status}
    for part in ("activeServiceStatus", "pendingServiceStatus"):
        reduced[part] = {name: value for name, value in (status.get(part) or {}).items() if name in _CLUSTER_STATUS}
    suspended = bool(((subject.get("spec") or {}).get("rayClusterConfig") or {}).get("suspend"))
    return subject | {"spec": {"rayClusterConfig": {"suspend": suspended}}, "status": reduced}
