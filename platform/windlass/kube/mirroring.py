"""From what was read of a cluster to the Mirror of it; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from windlass.domain.jobs import Reason
from windlass.domain.mirror import Mirror, ProjectState, id_of
from windlass.domain.projects import Member, Pool, Project, Role, StoredQuota
from windlass.domain.quota import Snapshot, schedule
from windlass.kube import resources
from windlass.kube.kueue.explain import Observation, explain
from windlass.kube.kueue.facts import Event, Node, Pod
from windlass.kube.kueue.queues import ClusterQueue
from windlass.kube.kueue.reading import whole
from windlass.kube.kueue.snapshot import ClusterState, take_snapshot, unmodelled
from windlass.kube.kueue.workload import PendingWorkloads, Workload
from windlass.kube.names import project_of
from windlass.kube.objects import Object
from windlass.kube.ownership import managed_by
from windlass.kube.slimming import WORKLOAD_OF_POD


class ReadPool(NamedTuple):
    """A GPUPool, and what it means here."""

    resource: resources.GPUPool
    pool: Pool


@dataclass(frozen=True)
class Sight:
    """Everything that was read. ``pods`` and ``nodes`` are None where they cannot be read."""

    state: ClusterState
    pools: Sequence[ReadPool]
    projects: Sequence[ProjectState]
    lines: Mapping[str, PendingWorkloads] = field(default_factory=dict)
    """By ClusterQueue."""
    pods: Sequence[Pod] | None = ()
    nodes: Mapping[str, Node] | None = field(default_factory=dict)
    events: Sequence[Event] = ()
    notes: Sequence[str] = ()


def read_pool(raw: Object) -> ReadPool:
    """Read a GPUPool; fields that a newer definition has added are not for us.

    Raises:
        ValueError: it is none.
    """
    one = resources.GPUPool.model_validate({"status": {}} | raw, extra="ignore")
    ready = next((each for each in one.status.conditions if each.type == "Ready"), None)
    return ReadPool(
        one,
        Pool(
            id=id_of("pool", one.metadata.uid),
            name=one.metadata.name,
            capacity=one.status.capacity,
            gpu_type=one.spec.gpu_type,
            max_gpus_per_job=one.spec.max_gpus_per_job,
            price_per_gpu_hour=float(one.spec.price_per_gpu_hour),
            nodes=one.status.nodes,
            ready_nodes=one.status.ready_nodes,
            allocatable=one.status.allocatable,
            problem=ready.message if ready is not None and ready.status != "True" else "",
            created_at=_created(one.metadata),
            version=max(1, one.metadata.generation),
        ),
    )


def read_project(raw: Object) -> ProjectState:
    """Read a Project. Its groups are no members here: who is in them only the cluster's authentication knows.

    Raises:
        ValueError: it is none.
    """
    one = resources.Project.model_validate({"status": {}} | raw, extra="ignore")
    uid, version = id_of("prj", one.metadata.uid), max(1, one.metadata.generation)
    members = (
        Member(project=uid, user=each.name, role=Role(each.role), version=version)
        for each in one.spec.members
        if each.kind == "User"
    )
    quotas = (
        StoredQuota(
            project=uid,
            pool=each.pool,
            nominal=each.nominal,
            borrowing_limit=each.borrowing_limit,
            lending_limit=each.lending_limit,
            managed_by=managed_by(raw, each.pool),
            version=version,
        )
        for each in one.spec.quotas
    )
    project = Project(
        id=uid,
        name=one.metadata.name,
        display_name=one.spec.display_name,
        cohort=one.spec.cohort,
        priority_ceiling=one.spec.jobs.priority_ceiling,
        created_at=_created(one.metadata),
        version=version,
    )
    return ProjectState(project=project, members=tuple(members), quotas=tuple(quotas))


def _created(metadata: resources.Metadata) -> datetime:
    if metadata.creation_timestamp is None:
        raise ValueError("metadata.creationTimestamp is missing")
    return metadata.creation_timestamp


def read_queue(raw: Object) -> ClusterQueue:
    """Read a ClusterQueue whose numbers are numbers.

    Raises:
        ValueError: it is none.
        InvalidError: a quantity is none.
    """
    queue = ClusterQueue.parse(raw)
    for group in queue.spec.resource_groups:
        for each in (each for flavor in group.flavors for each in flavor.resources):
            _natural(each.nominal, each.borrows or 0, each.lends or 0)
    return queue


def read_workload(raw: Object) -> Workload:
    """Read a Workload whose numbers are numbers.

    Raises:
        ValueError: it is none.
        InvalidError: a quantity is none.
    """
    one = Workload.parse(raw)
    for given in one.status.admission.pod_set_assignments if one.status.admission else ():
        _natural(*(whole(amount) for amount in given.resource_usage.values()))
    for asked in one.spec.pod_sets:
        spec = asked.template.spec
        for container in (*spec.containers, *spec.init_containers):
            amounts = (*container.resources.requests.values(), *container.resources.limits.values())
            _natural(asked.count, *(whole(amount) for amount in amounts))
    return one


def _natural(*amounts: int) -> None:
    if min(amounts, default=0) < 0:
        raise ValueError("an amount is below zero")


def waiting(state: ClusterState) -> dict[str, frozenset[tuple[str, int]]]:
    """Return who waits before each ClusterQueue, with its priority: what the order of the line depends on."""
    found: dict[str, set[tuple[str, int]]] = {}
    for one in state.workloads:
        queue = None if one.finished or one.reserves or not one.spec.active else state.queue_of(one)
        if queue is not None:
            found.setdefault(queue.metadata.name, set()).add((one.key, one.spec.priority))
    return {name: frozenset(keys) for name, keys in found.items()}


def mirror_of(seen: Sight) -> Mirror:
    """Return the Mirror of what was read."""
    snapshot = take_snapshot(seen.state)
    return Mirror(
        pools=tuple(one.pool for one in seen.pools),
        projects=tuple(seen.projects),
        snapshot=snapshot,
        reasons=reasons(seen, snapshot),
        notes=(*unmodelled(seen.state), *seen.notes),
    )


def reasons(seen: Sight, snapshot: Snapshot) -> dict[str, Reason]:
    """Return why each workload of a project does not run, by the name of its claim; those that run have none."""
    state, foreseen = seen.state, schedule(snapshot).waiting
    pods = _by_workload(seen.pods or (), state.workloads)
    found: dict[str, Reason] = {}
    for one in state.workloads:
        if one.finished or project_of(one.metadata.namespace) is None:
            continue
        if seen.pods is None and one.admitted and not one.evicted:
            continue  # only its pods could say whether it runs
        job, queue = state.jobs[one.key], state.queue_of(one)
        reason = explain(
            Observation(
                workload=one,
                state=state,
                line=seen.lines.get(queue.metadata.name) if queue else None,
                foreseen=foreseen.get(job),
                pods=tuple(pods.get(one.key, ())),
                nodes=seen.nodes,
                events=tuple(seen.events),
            )
        )
        if reason is not None:
            found[job] = reason
    return found


def _by_workload(pods: Iterable[Pod], workloads: Iterable[Workload]) -> dict[str, list[Pod]]:
    """Return the pods of each workload: those that name it, or have the owner that it has."""
    owned = {(one.metadata.namespace, one.metadata.owner.uid): one.key for one in workloads if one.metadata.owner}
    found: dict[str, list[Pod]] = {}
    for pod in pods:
        space, owner = pod.metadata.namespace, pod.metadata.owner
        named = pod.metadata.annotations.get(WORKLOAD_OF_POD)
        key = f"{space}/{named}" if named else owned.get((space, owner.uid)) if owner else None
        if key is not None:
            found.setdefault(key, []).append(pod)
    return found
