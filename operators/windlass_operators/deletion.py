"""The end of pools, projects and cohorts: what must be gone first, asked of the API server itself and not of memory.

Each function does the next step that is possible now and returns what is still in the way, in words; nothing in the way
means that all is gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from windlass.kube.client import Client
from windlass.kube.errors import UnknownKindError
from windlass.kube.names import (
    CLOSED_ANNOTATION,
    FIELD_MANAGER,
    MANAGED_BY,
    OWNER,
    POOL_LABEL,
    PROJECT_LABEL,
    PROJECT_UID_LABEL,
    namespace_of,
)
from windlass.kube.objects import Kind, Object, Ref
from windlass_operators.decide import some
from windlass_operators.decide.claims import condition, finished
from windlass_operators.kinds import CLUSTER_QUEUE, LIVE, NAMESPACE, POOL_CHILDREN, RAY_SERVICE, WORKLOAD

_POD, _JOB, _RAY_JOB = Kind("v1", "Pod"), Kind("batch/v1", "Job"), Kind("ray.io/v1", "RayJob")
_ENDED = ("Succeeded", "Failed")
_RAY_JOB_ENDED = ("Complete", "Failed", "ValidationFailed")
"""A RayJob's ``status.jobDeploymentStatus`` (KubeRay 1.6) after which it starts nothing any more."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What must be known of a project or pool to take it down: no more than can be read of a malformed one."""

    name: str
    uid: str
    cancel: bool = False
    """What lives in the project's namespace is cancelled, and not waited for."""

    @classmethod
    def of(cls, raw: Object) -> Self:
        """Return what is known of an object as it is stored, whatever its spec is."""
        metadata, spec = raw["metadata"], raw.get("spec")
        said = spec.get("whenDeleted") if isinstance(spec, dict) else None
        return cls(metadata["name"], metadata["uid"], said == "Cancel")


def end_project(client: Client, project: Ending) -> list[str]:
    """Take a project's namespace and queues away, when nothing lives there or the project says to cancel what does.

    Raises:
        ClusterError: the API server did not do its part.
    """
    space = client.find(Ref(NAMESPACE, namespace_of(project.name)))
    if space is not None and _is_of(space, project):
        if space["metadata"].get("deletionTimestamp"):
            return [_ending(space)]
        if not _is_closed(space):
            _close(client, space)
            return [f"namespace {space['metadata']['name']} takes no new jobs from now on"]
        if rest := _end_live(client, project, space["metadata"]["name"]):
            return rest
        client.delete(Ref.of(space), uid=space["metadata"]["uid"])
        return [f"namespace {space['metadata']['name']} is being deleted"]
    labels = f"{MANAGED_BY}={OWNER},{PROJECT_LABEL}={project.name}"
    queues = [one for one in _list(client, CLUSTER_QUEUE, labels=labels) if _owned_by(one, project.uid)]
    return list(_delete_all(client, queues))


def end_pool(client: Client, pool: Ending) -> list[str]:
    """Take a pool's flavor and topology away; Kueue holds a flavor for as long as a queue uses it."""
    labels = f"{MANAGED_BY}={OWNER},{POOL_LABEL}={pool.name},!{PROJECT_LABEL}"
    found = [one for kind in reversed(POOL_CHILDREN) for one in _list(client, kind, labels=labels)]
    return list(_delete_all(client, [one for one in found if _owned_by(one, pool.uid)]))


def _end_live(client: Client, project: Ending, space: str) -> list[str]:
    """Cancel what lives in the namespace, if the project says so; return what lives."""
    found = [one for kind in LIVE for one in _list(client, kind, space)]
    live = [one for one in found if lives(one)]
    if not live:
        return []
    shown = some(f"{one['kind']} {one['metadata']['name']}" for one in live)
    if not project.cancel:
        return [f"{len(live)} live in {space}: {shown}; wait for their end, or set spec.whenDeleted to Cancel"]
    for one in found:
        # what another one controls goes with it, and would be made again as long as that one stands
        if not any(owner.get("controller") for owner in one["metadata"].get("ownerReferences", ())):
            client.delete(Ref.of(one), uid=one["metadata"]["uid"])
    return [f"{len(live)} are being cancelled: {shown}"]


def lives(subject: Object) -> bool:
    """Tell whether something runs, waits or will start.

    Workloads and pods tell of what runs, whoever made it. Jobs count themselves too: one that was just made has neither
    a Workload nor a pod yet, and none while Kueue is not there.
    """
    kind, status = Kind.of(subject), subject.get("status", {})
    if kind == WORKLOAD:
        return not finished(subject)
    if kind == _POD:
        return status.get("phase") not in _ENDED
    if kind == _JOB:
        return "True" not in {condition(subject, "Complete"), condition(subject, "Failed")}
    if kind == _RAY_JOB:
        return status.get("jobDeploymentStatus") not in _RAY_JOB_ENDED
    return kind == RAY_SERVICE


def _is_closed(space: Object) -> bool:
    return CLOSED_ANNOTATION in space["metadata"].get("annotations", {})


def _close(client: Client, space: Object) -> None:
    """Have the admission policies refuse new jobs; those that look one moment later still see what came before."""
    fields = {"metadata": {"uid": space["metadata"]["uid"], "annotations": {CLOSED_ANNOTATION: "true"}}}
    client.patch(Ref.of(space), fields, manager=FIELD_MANAGER)


def _list(client: Client, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Object]:
    """List a kind; what the cluster does not know it has none of."""
    try:
        return client.list(kind, namespace, labels=labels).items
    except UnknownKindError:
        return []


def _delete_all(client: Client, found: list[Object]) -> Iterator[str]:
    for one in found:
        if not one["metadata"].get("deletionTimestamp"):
            client.delete(Ref.of(one), uid=one["metadata"]["uid"])
        yield f"{one['kind']} {one['metadata']['name']} is being deleted"


def _is_of(space: Object, project: Ending) -> bool:
    labels: dict[str, str] = space["metadata"].get("labels", {})
    return labels.get(MANAGED_BY) == OWNER and labels.get(PROJECT_UID_LABEL) == project.uid


def _owned_by(subject: Object, uid: str) -> bool:
    return any(one["uid"] == uid for one in subject["metadata"].get("ownerReferences", ()))


def _ending(space: Object) -> str:
    """Say what a namespace waits for, in the words of the namespace controller."""
    conditions = space.get("status", {}).get("conditions", ())
    rest = [one["message"] for one in conditions if one.get("status") == "True" and one.get("message")]
    name = space["metadata"]["name"]
    return f"namespace {name} is being deleted" + (f": {some(rest, '; ')}" if rest else "")
