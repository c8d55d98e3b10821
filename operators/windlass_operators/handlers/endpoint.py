"""Reconciles ModelEndpoints: their RayServices."""

from windlass.kube.names import ENDPOINT_LABEL, project_of
from windlass.kube.objects import Object
from windlass.kube.resources import ModelEndpoint, Project
from windlass_operators.children import ApplyResult
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.decide import endpoint
from windlass_operators.handlers.status_writer import RETRY_SECONDS, StatusWriter
from windlass_operators.kinds import RAY_SERVICE
from windlass_operators.ray_cluster_sizes import RayClusterSizes
from windlass_operators.render import model_endpoint as render


def reconcile(
    subject: ModelEndpoint, cache: ClusterCache, writer: StatusWriter, sizes: RayClusterSizes
) -> float | None:
    """Reconcile an endpoint; return seconds after which to requeue it, or None."""
    if subject.metadata.deletion_timestamp is not None:
        return None  # the garbage collector deletes its RayServices
    pools = cache.pools()
    project = endpoint.project_for(subject, _projects(subject, cache))
    blocker = endpoint.blocker(subject, project, pools, cache.older_endpoints(subject))
    result = ApplyResult()
    if blocker is None and project is not None:
        result = writer.reconcile_children(subject, render.objects(subject, project, pools), _services(subject, cache))
        for service in _services(subject, cache):
            if not service["metadata"].get("deletionTimestamp"):
                sizes.copy(service)
    status = endpoint.status(subject, blocker, result.failed, _services(subject, cache), writer.now())
    before = {field: value for field, value in subject.status.wire().items() if field in status}
    writer.update_status(subject, before, status)
    return RETRY_SECONDS if result.failed else None


def _services(subject: ModelEndpoint, cache: ClusterCache) -> list[Object]:
    """Return the RayServices of the endpoint."""
    services = cache.store.by_label(RAY_SERVICE, ENDPOINT_LABEL, subject.metadata.name)
    return [service for service in services if service["metadata"].get("namespace") == subject.metadata.namespace]


def _projects(subject: ModelEndpoint, cache: ClusterCache) -> dict[str, Project]:
    """Return the project of the endpoint's namespace by name; empty if there is none."""
    project = cache.project(project_of(subject.metadata.namespace or "") or "")
    return {project.metadata.name: project} if project else {}
