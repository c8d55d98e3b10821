"""Reconciles objects that our models reject: reports the problem, leaves the children unchanged, allows deletion."""

from windlass.kube.client import KubeClient
from windlass.kube.names import FINALIZER
from windlass.kube.objects import Kind, Object
from windlass_operators.children import Owner
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.decide import ConditionResult, gpu_pool, join_limited
from windlass_operators.handlers.project import TEARDOWN_POLL_SECONDS
from windlass_operators.handlers.status_writer import StatusWriter
from windlass_operators.kinds import POOL
from windlass_operators.teardown import TeardownTarget, teardown_pool, teardown_project


def reconcile(
    raw: Object, problem: ConditionResult, cache: ClusterCache, client: KubeClient, writer: StatusWriter
) -> float | None:
    """Report the problem, or tear down the resource; return seconds after which to requeue it, or None.

    A deleted resource is torn down by name and uid: namespace and queues must carry the uid, so that no other
    resource's are deleted. Its ``whenDeleted`` is used if valid; otherwise running jobs are waited for.
    """
    metadata = raw["metadata"]
    finalizers = metadata.get("finalizers", ())
    if not metadata.get("deletionTimestamp") or FINALIZER not in finalizers:
        writer.mark_malformed(raw, problem)
        return None
    target = TeardownTarget.of(raw)
    if Kind.of(raw) == POOL:
        pending = gpu_pool.quota_users(target.name, cache.quotas()) or teardown_pool(client, target)
    else:
        pending = teardown_project(client, target)
    if not pending:
        owner = Owner(Kind.of(raw), target.name, target.uid, metadata.get("namespace"))
        writer.remove_finalizer(owner, finalizers, metadata["resourceVersion"])
        return None
    message = f"{join_limited(pending, '; ')}; {problem.message}"
    writer.mark_malformed(raw, ConditionResult(status=False, reason="Deleting", message=message))
    return TEARDOWN_POLL_SECONDS
