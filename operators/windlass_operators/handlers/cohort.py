"""Reconciles Cohorts: shared by the projects that name them, deleted after the last one."""

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeConflictError
from windlass.kube.names import MANAGED_BY, OWNER
from windlass.kube.objects import Object, Ref
from windlass_operators.cluster_cache import ClusterCache


def reconcile(cohort: Object, cache: ClusterCache, client: KubeClient) -> None:
    """Delete a cohort of ours that no project names. A project that names it meanwhile recreates it."""
    metadata = cohort["metadata"]
    name = metadata["name"].removeprefix(f"{OWNER}-")
    ours = metadata.get("labels", {}).get(MANAGED_BY) == OWNER and name != metadata["name"]
    if not ours or metadata.get("deletionTimestamp") or cache.members(name):
        return
    try:
        client.delete(Ref.of(cohort), uid=metadata["uid"])
    except KubeConflictError:
        return  # recreated meanwhile; the new object is reconciled separately
