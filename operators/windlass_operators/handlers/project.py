"""Reconciles Projects: namespace, isolation, queues, and quota usage."""

from collections.abc import Mapping

from windlass.kube.client import KubeClient
from windlass.kube.names import FINALIZER, POOL_LABEL, PROJECT_LABEL, namespace_of
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.resources import GPUPool, Project
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.decide import READY, ConditionResult, join_limited, project
from windlass_operators.handlers.status_writer import RETRY_SECONDS, StatusWriter, owner_of
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, PROJECT_CHILDREN, RESOURCE_QUOTA
from windlass_operators.render import namespace, queues
from windlass_operators.render.network import PlatformNetwork
from windlass_operators.teardown import TeardownTarget, teardown_project

TEARDOWN_POLL_SECONDS = 2.0
"""Interval during the deletion of a project: its pods are not watched."""
_POOL_DEPENDENT = {NAMESPACE, RESOURCE_QUOTA}
"""Children rendered from all pools: unchanged while a pool is invalid, since its part would be removed."""


def reconcile(
    subject: Project, cache: ClusterCache, client: KubeClient, writer: StatusWriter, network: PlatformNetwork
) -> float | None:
    """Reconcile a project; return seconds after which to requeue it, or None."""
    if subject.metadata.deletion_timestamp is not None:
        return _teardown(subject, cache, client, writer)
    writer.add_finalizer(subject)
    pools = cache.pools()
    desired = [*namespace.objects(subject, pools, network), *queues.objects(subject, pools)]
    observed = _observed_children(subject, cache, pools)
    if cache.invalid_pools():
        unchanged = {Ref.of(child) for child in observed if Kind.of(child) in _POOL_DEPENDENT}
        desired = [child for child in desired if Ref.of(child) not in unchanged]
        observed = [child for child in observed if Ref.of(child) not in unchanged]
    result = writer.reconcile_children(subject, desired, observed)
    status = project.status(subject, _observation(subject, cache, pools), result.failed, writer.now())
    writer.update_status(subject, subject.status.wire(), status.wire())
    return RETRY_SECONDS if result.failed else None


def _observed_children(subject: Project, cache: ClusterCache, pools: Mapping[str, GPUPool]) -> list[Object]:
    """Return the project's children, without the queues of missing pools: an invalid pool still exists."""
    missing = {quota.pool for quota in subject.spec.quotas} - set(pools)
    name = subject.metadata.name
    children = [child for kind in PROJECT_CHILDREN for child in cache.store.by_label(kind, PROJECT_LABEL, name)]
    return [child for child in children if child["metadata"]["labels"].get(POOL_LABEL) not in missing]


def _observation(subject: Project, cache: ClusterCache, pools: dict[str, GPUPool]) -> project.ProjectObservation:
    name = subject.metadata.name
    cluster_queues = cache.store.by_label(CLUSTER_QUEUE, PROJECT_LABEL, name)
    return project.ProjectObservation(
        pools=pools,
        usage=cache.usage(subject, pools),
        namespace=cache.store.get(Ref(NAMESPACE, namespace_of(name))),
        queues={queue["metadata"]["name"]: queue for queue in cluster_queues},
    )


def _teardown(subject: Project, cache: ClusterCache, client: KubeClient, writer: StatusWriter) -> float | None:
    if FINALIZER not in subject.metadata.finalizers:
        return None
    metadata, cancel = subject.metadata, subject.spec.when_deleted == "Cancel"
    pending = teardown_project(client, TeardownTarget(metadata.name, metadata.uid, cancel))
    if not pending:
        writer.remove_finalizer(owner_of(subject), metadata.finalizers, metadata.resource_version)
        return None
    rows = project.quota_usage(subject, cache.usage(subject, cache.pools()))
    ready = ConditionResult(status=False, reason="Deleting", message=join_limited(pending, "; "))
    status = project.build_status(subject, rows, {READY: ready}, writer.now())
    writer.update_status(subject, subject.status.wire(), status.wire())
    return TEARDOWN_POLL_SECONDS
