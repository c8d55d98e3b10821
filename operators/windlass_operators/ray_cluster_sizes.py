"""Copies the numbers of pods of a RayService to its RayClusters.

KubeRay (1.6.2) creates a RayCluster with the numbers of its RayService, and leaves them to Ray's autoscaler afterwards:
other numbers in the RayService do not change its RayCluster. Kueue counts those of the RayService.
"""

from typing import Any

from windlass.kube.client import KubeClient
from windlass.kube.names import FIELD_MANAGER
from windlass.kube.objects import Object, Ref
from windlass_operators.kinds import RAY_CLUSTER

_SIZES = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy")
_MAX_COPIED = 100_000
"""Some 30 MB. Deleted RayServices leave entries behind."""


class RayClusterSizes:
    """Reads a RayCluster again whenever its RayService has changed."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._copied: dict[Ref, str] = {}
        """The version of the RayService whose numbers a RayCluster has."""

    def copy(self, service: Object) -> None:
        """Give the RayClusters of a live RayService its numbers of pods.

        Raises:
            KubeConflictError: KubeRay has changed a RayCluster meanwhile; reconcile again.
            KubeApiError: the API server rejects the change, or cannot answer now.
        """
        metadata, status = service["metadata"], service.get("status") or {}
        for part in ("activeServiceStatus", "pendingServiceStatus"):
            name = (status.get(part) or {}).get("rayClusterName")
            if not name:
                continue
            ref = Ref(RAY_CLUSTER, name, metadata["namespace"])
            if self._copied.get(ref) == metadata["resourceVersion"]:
                continue
            if (live := self._client.find(ref)) is None:
                continue
            groups = resized_groups(service["spec"]["rayClusterConfig"], live["spec"])
            if groups is not None:
                fields = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}}
                self._client.patch(ref, fields | {"spec": {"workerGroupSpecs": groups}}, manager=FIELD_MANAGER)
            if len(self._copied) >= _MAX_COPIED:
                self._copied.clear()
            self._copied[ref] = metadata["resourceVersion"]


def resized_groups(desired: Object, live: Object) -> list[Object] | None:
    """Return the worker groups of a RayCluster with the numbers of the desired ones; None if it has them."""
    sizes = {group["groupName"]: _sizes(group) for group in desired.get("workerGroupSpecs") or ()}
    groups: list[Object] = live.get("workerGroupSpecs") or []
    if all(_sizes(group) == sizes.get(group["groupName"], _sizes(group)) for group in groups):
        return None
    return [
        {name: value for name, value in group.items() if name not in _SIZES}
        | sizes.get(group["groupName"], _sizes(group))
        for group in groups
    ]


def _sizes(group: Object) -> dict[str, Any]:
    return {name: group[name] for name in _SIZES if group.get(name)}
