"""Cohort: shared by the projects that name it, gone with the last of them."""

from windlass.kube.client import Client
from windlass.kube.errors import ConflictError
from windlass.kube.names import MANAGED_BY, OWNER
from windlass.kube.objects import Object, Ref
from windlass_operators.world import World


def reconcile(cohort: Object, world: World, client: Client) -> None:
    """Delete a cohort of ours that no project names. Should one do so meanwhile, it makes it again."""
    metadata = cohort["metadata"]
    name = metadata["name"].removeprefix(f"{OWNER}-")
    ours = metadata.get("labels", {}).get(MANAGED_BY) == OWNER and name != metadata["name"]
    if not ours or metadata.get("deletionTimestamp") or world.members(name):
        return
    try:
        client.delete(Ref.of(cohort), uid=metadata["uid"])
    except ConflictError:
        return  # it is another one by now, which has its own turn
