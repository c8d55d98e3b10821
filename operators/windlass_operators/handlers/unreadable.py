"""What becomes of an object that our models do not take: it says why, stays as it is, and can be deleted."""

from windlass.kube.client import Client
from windlass.kube.names import FINALIZER
from windlass.kube.objects import Kind, Object
from windlass_operators.children import Owner
from windlass_operators.decide import Verdict, gpu_pool, some
from windlass_operators.deletion import Ending, end_pool, end_project
from windlass_operators.handlers.project import LOOK_SECONDS
from windlass_operators.handlers.writing import Writer
from windlass_operators.kinds import POOL
from windlass_operators.world import World


def reconcile(raw: Object, wrong: Verdict, world: World, client: Client, writer: Writer) -> float | None:
    """Say what is wrong; return seconds until another look is wanted.

    One that is being deleted is taken down by its name and uid alone: namespace and queues must carry the uid, so that
    nothing goes that is another one's. What it says of live jobs counts as far as it can be read, and else they are
    waited for.
    """
    metadata = raw["metadata"]
    finalizers = metadata.get("finalizers", ())
    if not metadata.get("deletionTimestamp") or FINALIZER not in finalizers:
        writer.malformed(raw, wrong)
        return None
    ending = Ending.of(raw)
    if Kind.of(raw) == POOL:
        rest = gpu_pool.held_by(ending.name, world.quotas()) or end_pool(client, ending)
    else:
        rest = end_project(client, ending)
    if not rest:
        owner = Owner(Kind.of(raw), ending.name, ending.uid, metadata.get("namespace"))
        writer.let_go(owner, finalizers, metadata["resourceVersion"])
        return None
    writer.malformed(raw, Verdict(status=False, reason="Deleting", message=f"{some(rest, '; ')}; {wrong.message}"))
    return LOOK_SECONDS
