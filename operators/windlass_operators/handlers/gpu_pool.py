"""GPUPool: its ResourceFlavor and Topology, and what its nodes have."""

from windlass.kube.client import Client
from windlass.kube.names import FINALIZER, POOL_LABEL, PROJECT_LABEL
from windlass.kube.resources import GPUPool
from windlass_operators.decide import READY, Verdict, gpu_pool, some
from windlass_operators.deletion import Ending, end_pool
from windlass_operators.handlers.writing import RETRY_SECONDS, Writer, owner_of
from windlass_operators.kinds import NODE, POOL_CHILDREN
from windlass_operators.render import gpu_pool as render
from windlass_operators.world import World


def reconcile(pool: GPUPool, world: World, client: Client, writer: Writer) -> float | None:
    """Bring about the pool; return seconds until another look is wanted."""
    if pool.metadata.deletion_timestamp is not None:
        return _end(pool, world, client, writer)
    writer.hold(pool)
    labelled = [one for kind in POOL_CHILDREN for one in world.store.labelled(kind, POOL_LABEL, pool.metadata.name)]
    observed = [one for one in labelled if PROJECT_LABEL not in one["metadata"]["labels"]]
    outcome = writer.children(pool, render.objects(pool), observed)
    status = gpu_pool.status(pool, _seen(world), outcome.refused, writer.now())
    writer.status(pool, pool.status.wire(), status.wire())
    return RETRY_SECONDS if outcome.refused else None


def _end(pool: GPUPool, world: World, client: Client, writer: Writer) -> float | None:
    if FINALIZER not in pool.metadata.finalizers:
        return None
    metadata = pool.metadata
    rest = gpu_pool.held_by(metadata.name, world.quotas()) or end_pool(client, Ending(metadata.name, metadata.uid))
    if not rest:
        writer.let_go(owner_of(pool), metadata.finalizers, metadata.resource_version)
        return None
    status = gpu_pool.status(pool, _seen(world), (), writer.now()).wire()
    verdict = Verdict(status=False, reason="Deleting", message=some(rest, "; "))
    status["conditions"] = writer.verdicts(pool, pool.status.conditions, {READY: verdict})
    writer.status(pool, pool.status.wire(), status)
    return RETRY_SECONDS


def _seen(world: World) -> gpu_pool.Seen:
    pools, projects = world.pools(), world.projects()
    return gpu_pool.Seen(pools, projects, world.store.all(NODE), world.claims_of(projects, pools))
