"""Tears down pools and projects; reads from the API server, not from the cache.

Each function performs the next possible step and returns messages about what is still pending; empty: done.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from windlass.kube.client import KubeClient
from windlass.kube.errors import NoKindMatchError
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
from windlass.kube.objects import Kind, Object, Ref, condition_status
from windlass_operators.decide import join_limited
from windlass_operators.kinds import CLUSTER_QUEUE, NAMESPACE, POOL_CHILDREN, RAY_SERVICE, RUNNABLE_KINDS, WORKLOAD

_POD, _JOB, _RAY_JOB = Kind("v1", "Pod"), Kind("batch/v1", "Job"), Kind("ray.io/v1", "RayJob")
_ENDED_PHASES = ("Succeeded", "Failed")
_ENDED_RAY_JOB_STATUSES = ("Complete", "Failed", "ValidationFailed")
"""Values of a RayJob's ``status.jobDeploymentStatus`` (KubeRay 1.6) after which it starts nothing."""


@dataclass(frozen=True, slots=True)
class TeardownTarget:
    """The project or pool to tear down: only fields that can be read from a malformed object too."""

    name: str
    uid: str
    cancel: bool = False
    """Whether running jobs of the project are cancelled instead of waited for."""

    @classmethod
    def of(cls, raw: Object) -> Self:
        """Read the target from a stored object with any spec."""
        metadata, spec = raw["metadata"], raw.get("spec")
        when_deleted = spec.get("whenDeleted") if isinstance(spec, dict) else None
        return cls(metadata["name"], metadata["uid"], when_deleted == "Cancel")


def teardown_project(client: KubeClient, project: TeardownTarget) -> list[str]:
    """Delete a project's namespace and queues, once its jobs have ended or are cancelled.

    Raises:
        KubeApiError: a request failed.
    """
    namespace = client.find(Ref(NAMESPACE, namespace_of(project.name)))
    if namespace is not None and _belongs_to(namespace, project):
        name = namespace["metadata"]["name"]
        if namespace["metadata"].get("deletionTimestamp"):
            return [_termination_progress(namespace)]
        if not _is_closed(namespace):
            _close(client, namespace)
            return [f"namespace {name} accepts no new jobs"]
        if pending := _end_jobs(client, project, name):
            return pending
        client.delete(Ref.of(namespace), uid=namespace["metadata"]["uid"])
        return [f"namespace {name} is being deleted"]
    labels = f"{MANAGED_BY}={OWNER},{PROJECT_LABEL}={project.name}"
    queues = [queue for queue in _list(client, CLUSTER_QUEUE, labels=labels) if _is_owned_by(queue, project.uid)]
    return list(_delete_all(client, queues))


def teardown_pool(client: KubeClient, pool: TeardownTarget) -> list[str]:
    """Delete a pool's flavors; Kueue keeps a flavor as long as a queue uses it."""
    labels = f"{MANAGED_BY}={OWNER},{POOL_LABEL}={pool.name},!{PROJECT_LABEL}"
    children = [child for kind in reversed(POOL_CHILDREN) for child in _list(client, kind, labels=labels)]
    return list(_delete_all(client, [child for child in children if _is_owned_by(child, pool.uid)]))


def _end_jobs(client: KubeClient, project: TeardownTarget, namespace: str) -> list[str]:
    """Cancel everything that runs in the namespace, if the project says so; return what still runs."""
    subjects = [subject for kind in RUNNABLE_KINDS for subject in _list(client, kind, namespace)]
    alive = [subject for subject in subjects if is_alive(subject)]
    if not alive:
        return []
    names = join_limited(f"{subject['kind']} {subject['metadata']['name']}" for subject in alive)
    if not project.cancel:
        waiting = f"waiting for {len(alive)} objects in {namespace} to end: {names}"
        return [f"{waiting}; to cancel them, set spec.whenDeleted to Cancel"]
    for subject in subjects:
        # the owner deletes what it controls, and would recreate it
        if not any(owner.get("controller") for owner in subject["metadata"].get("ownerReferences", ())):
            client.delete(Ref.of(subject), uid=subject["metadata"]["uid"])
    return [f"cancelling {len(alive)} objects in {namespace}: {names}"]


def is_alive(subject: Object) -> bool:
    """Return whether an object runs, waits or will start.

    Workloads and pods cover everything that runs. Jobs count too: a new one has neither a Workload nor a pod yet, and
    none while Kueue is down.
    """
    kind, status = Kind.of(subject), subject.get("status", {})
    if kind == WORKLOAD:
        return condition_status(subject, "Finished") != "True"
    if kind == _POD:
        return status.get("phase") not in _ENDED_PHASES
    if kind == _JOB:
        return "True" not in {condition_status(subject, "Complete"), condition_status(subject, "Failed")}
    if kind == _RAY_JOB:
        return status.get("jobDeploymentStatus") not in _ENDED_RAY_JOB_STATUSES
    return kind == RAY_SERVICE


def _is_closed(namespace: Object) -> bool:
    return CLOSED_ANNOTATION in namespace["metadata"].get("annotations", {})


def _close(client: KubeClient, namespace: Object) -> None:
    """Make the admission policies reject new jobs; the next step still finds jobs created before."""
    fields = {"metadata": {"uid": namespace["metadata"]["uid"], "annotations": {CLOSED_ANNOTATION: "true"}}}
    client.patch(Ref.of(namespace), fields, manager=FIELD_MANAGER)


def _list(client: KubeClient, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Object]:
    """List a kind; empty if it is not served."""
    try:
        return client.list(kind, namespace, labels=labels).items
    except NoKindMatchError:
        return []


def _delete_all(client: KubeClient, subjects: list[Object]) -> Iterator[str]:
    for subject in subjects:
        if not subject["metadata"].get("deletionTimestamp"):
            client.delete(Ref.of(subject), uid=subject["metadata"]["uid"])
        yield f"{subject['kind']} {subject['metadata']['name']} is being deleted"


def _belongs_to(namespace: Object, project: TeardownTarget) -> bool:
    labels: dict[str, str] = namespace["metadata"].get("labels", {})
    return labels.get(MANAGED_BY) == OWNER and labels.get(PROJECT_UID_LABEL) == project.uid


def _is_owned_by(subject: Object, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in subject["metadata"].get("ownerReferences", ()))


def _termination_progress(namespace: Object) -> str:
    """Return what a terminating namespace waits for, from its conditions."""
    conditions = namespace.get("status", {}).get("conditions", ())
    messages = [item["message"] for item in conditions if item.get("status") == "True" and item.get("message")]
    name = namespace["metadata"]["name"]
    return f"namespace {name} is being deleted" + (f": {join_limited(messages, '; ')}" if messages else "")
