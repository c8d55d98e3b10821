"""Reconciles GPUPools: their ResourceFlavors, and their capacity."""

from windlass.kube.client import KubeClient
from windlass.kube.names import FINALIZER, POOL_LABEL, PROJECT_LABEL
from windlass.kube.resources import GPUPool
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.decide import READY, ConditionResult, gpu_pool, join_limited
from windlass_operators.handlers.status_writer import RETRY_SECONDS, StatusWriter, owner_of
from windlass_operators.kinds import POOL_CHILDREN
from windlass_operators.render import gpu_pool as render
from windlass_operators.teardown import TeardownTarget, teardown_pool


def reconcile(pool: GPUPool, cache: ClusterCache, client: KubeClient, writer: StatusWriter) -> float | None:
    """Reconcile a pool; return seconds after which to requeue it, or None."""
    if pool.metadata.deletion_timestamp is not None:
        return _teardown(pool, cache, client, writer)
    writer.add_finalizer(pool)
    name = pool.metadata.name
    labelled = [child for kind in POOL_CHILDREN for child in cache.store.by_label(kind, POOL_LABEL, name)]
    observed = [child for child in labelled if PROJECT_LABEL not in child["metadata"]["labels"]]
    result = writer.reconcile_children(pool, render.objects(pool), observed)
    status = gpu_pool.status(pool, _observation(pool, cache), result.failed, writer.now())
    writer.update_status(pool, pool.status.wire(), status.wire())
    return RETRY_SECONDS if result.failed else None


def _teardown(pool: GPUPool, cache: ClusterCache, client: KubeClient, writer: StatusWriter) -> float | None:
    metadata = pool.metadata
    if FINALIZER not in metadata.finalizers:
        return None
    pending = gpu_pool.quota_users(metadata.name, cache.quotas())
    pending = pending or teardown_pool(client, TeardownTarget(metadata.name, metadata.uid))
    if not pending:
        writer.remove_finalizer(owner_of(pool), metadata.finalizers, metadata.resource_version)
        return None
    status = gpu_pool.status(pool, _observation(pool, cache), (), writer.now()).wire()
    ready = ConditionResult(status=False, reason="Deleting", message=join_limited(pending, "; "))
    status["conditions"] = writer.conditions(pool, pool.status.conditions, {READY: ready})
    writer.update_status(pool, pool.status.wire(), status)
    return RETRY_SECONDS


def _observation(pool: GPUPool, cache: ClusterCache) -> gpu_pool.PoolObservation:
    pools, used = cache.pools(), cache.pool_usage(pool.metadata.name, cache.pools())
    return gpu_pool.PoolObservation(pools, cache.projects(), cache.nodes(), used)
