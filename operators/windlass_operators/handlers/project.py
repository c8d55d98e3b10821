"""Project: its namespace, the walls around it, its queues, and its account of each pool."""

from collections.abc import Mapping

from windlass.kube.client import Client
from windlass.kube.names import FINALIZER, POOL_LABEL, PROJECT_LABEL, namespace_of
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.resources import GPUPool, Project
from windlass_operators.decide import READY, Verdict, project, some
from windlass_operators.deletion import Ending, end_project
from windlass_operators.handlers.writing import RETRY_SECONDS, Writer, owner_of
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, PROJECT_CHILDREN, RESOURCE_QUOTA
from windlass_operators.render import namespace, queues
from windlass_operators.world import World

LOOK_SECONDS = 2.0
"""While a project is being deleted: pods are not watched, and are asked for."""
_OF_POOLS = {NAMESPACE, RESOURCE_QUOTA}
"""Children that speak of all pools: while one cannot be read they stay as they are, or its part would be lost."""


def reconcile(subject: Project, world: World, client: Client, writer: Writer, system: str) -> float | None:
    """Bring about the project; return seconds until another look is wanted. ``system``: our own namespace."""
    if subject.metadata.deletion_timestamp is not None:
        return _end(subject, world, client, writer)
    writer.hold(subject)
    pools = world.pools()
    wished = [*namespace.objects(subject, pools, system), *queues.objects(subject, pools)]
    observed = _observed(subject, world, pools)
    if world.unreadable_pools():
        keep = {Ref.of(one) for one in observed if Kind.of(one) in _OF_POOLS}
        wished = [one for one in wished if Ref.of(one) not in keep]
        observed = [one for one in observed if Ref.of(one) not in keep]
    outcome = writer.children(subject, wished, observed)
    status = project.status(subject, _seen(subject, world, pools), outcome.refused, writer.now())
    writer.status(subject, subject.status.wire(), status.wire())
    return RETRY_SECONDS if outcome.refused else None


def _observed(subject: Project, world: World, pools: Mapping[str, GPUPool]) -> list[Object]:
    """The project's children; not the queues of a pool that only seems to be gone, as an unreadable one does."""
    unclear = {quota.pool for quota in subject.spec.quotas} - set(pools)
    name = subject.metadata.name
    found = [one for kind in PROJECT_CHILDREN for one in world.store.labelled(kind, PROJECT_LABEL, name)]
    return [one for one in found if one["metadata"]["labels"].get(POOL_LABEL) not in unclear]


def _seen(subject: Project, world: World, pools: dict[str, GPUPool]) -> project.Seen:
    mates, name = world.cohort_mates(subject), subject.metadata.name
    return project.Seen(
        pools=pools,
        projects=mates,
        claims=world.claims_of(mates, pools),
        namespace=world.store.get(Ref(NAMESPACE, namespace_of(name))),
        queues={one["metadata"]["name"]: one for one in world.store.labelled(CLUSTER_QUEUE, PROJECT_LABEL, name)},
    )


def _end(subject: Project, world: World, client: Client, writer: Writer) -> float | None:
    if FINALIZER not in subject.metadata.finalizers:
        return None
    metadata, cancel = subject.metadata, subject.spec.when_deleted == "Cancel"
    rest = end_project(client, Ending(metadata.name, metadata.uid, cancel))
    if not rest:
        writer.let_go(owner_of(subject), metadata.finalizers, metadata.resource_version)
        return None
    rows = project.accounts(subject, _seen(subject, world, world.pools()))
    verdict = Verdict(status=False, reason="Deleting", message=some(rest, "; "))
    status = project.said(subject, rows, {READY: verdict}, writer.now())
    writer.status(subject, subject.status.wire(), status.wire())
    return LOOK_SECONDS
