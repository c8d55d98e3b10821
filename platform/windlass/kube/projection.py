"""Projects what was observed of a cluster onto the domain's ObservedClusterState; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from windlass.domain.cluster_sync import ObservedClusterState, ProjectState, id_of
from windlass.domain.jobs import Reason
from windlass.domain.projects import Member, Pool, Project, Role, StoredQuota, SubjectKind
from windlass.domain.quota import Snapshot, schedule
from windlass.kube import resources
from windlass.kube.cache.transform import WORKLOAD_ANNOTATION
from windlass.kube.explain_job import explain_waiting_job
from windlass.kube.kueue.cluster_objects import KubeEvent, Node, Pod, RayJob
from windlass.kube.kueue.explain import WorkloadObservation
from windlass.kube.kueue.models import parse_quantity
from windlass.kube.kueue.placement import free_gpus
from windlass.kube.kueue.reservations import DeletedWorkload, ModelServers, reservations_from_workloads
from windlass.kube.kueue.snapshot import KueueState, snapshot_from_cluster, unsupported_settings
from windlass.kube.kueue.workload import PendingWorkloads, Workload
from windlass.kube.names import project_of
from windlass.kube.objects import Object
from windlass.kube.ownership import managed_by


class ParsedPool(NamedTuple):
    """A GPUPool as resource and as domain entity."""

    resource: resources.GPUPool
    pool: Pool


@dataclass(frozen=True)
class ClusterObservation:
    """All parsed objects. ``pods`` and ``nodes`` are None if they cannot be read."""

    state: KueueState
    pools: Sequence[ParsedPool]
    projects: Sequence[ProjectState]
    pending_workloads: Mapping[str, PendingWorkloads] = field(default_factory=dict)
    """By ClusterQueue."""
    deleted_workloads: Sequence[DeletedWorkload] = ()
    """Deleted in the last minutes."""
    pods: Sequence[Pod] | None = ()
    nodes: Mapping[str, Node] | None = field(default_factory=dict)
    ray_jobs: Mapping[str, RayJob] = field(default_factory=dict)
    """By uid."""
    apps: Mapping[str, str] = field(default_factory=dict)
    """The application of each RayService, by its uid; also of those that were deleted in the last minutes."""
    events: Sequence[KubeEvent] = ()
    notes: Sequence[str] = ()


def parse_pool(raw: Object) -> ParsedPool:
    """Parse a GPUPool; unknown fields, as of a newer CRD, are ignored.

    Raises:
        ValueError: it is invalid.
    """
    resource = resources.GPUPool.model_validate({"status": {}} | raw, extra="ignore")
    metadata, spec, status = resource.metadata, resource.spec, resource.status
    ready = next((condition for condition in status.conditions if condition.type == "Ready"), None)
    return ParsedPool(
        resource,
        Pool(
            id=id_of("pool", metadata.uid),
            name=metadata.name,
            capacity=status.capacity,
            gpu_type=spec.gpu_type,
            max_gpus_per_job=spec.max_gpus_per_job,
            price_per_gpu_hour=float(spec.price_per_gpu_hour),
            gpu_memory_bytes=parse_quantity(status.gpu_memory) if status.gpu_memory else None,
            nodes=status.nodes,
            ready_nodes=status.ready_nodes,
            allocatable=status.allocatable,
            problem=ready.message if ready is not None and ready.status != "True" else "",
            created_at=_created_at(metadata),
            version=max(1, metadata.generation),
        ),
    )


def parse_project(raw: Object) -> ProjectState:
    """Parse a Project.

    Raises:
        ValueError: it is invalid.
    """
    resource = resources.Project.model_validate({"status": {}} | raw, extra="ignore")
    metadata, spec = resource.metadata, resource.spec
    uid, version = id_of("prj", metadata.uid), max(1, metadata.generation)
    members = (
        Member(project=uid, kind=SubjectKind(member.kind), name=member.name, role=Role(member.role), version=version)
        for member in spec.members
    )
    quotas = (
        StoredQuota(
            project=uid,
            pool=quota.pool,
            nominal=quota.nominal,
            borrowing_limit=quota.borrowing_limit,
            lending_limit=quota.lending_limit,
            managed_by=managed_by(raw, quota.pool),
            version=version,
        )
        for quota in spec.quotas
    )
    project = Project(
        id=uid,
        name=metadata.name,
        display_name=spec.display_name,
        cohort=spec.cohort,
        priority_ceiling=spec.jobs.priority_ceiling,
        created_at=_created_at(metadata),
        version=version,
    )
    return ProjectState(
        project=project,
        members=tuple(members),
        quotas=tuple(quotas),
        warm_trainers={each.pool: each.count for each in spec.warm_trainers if each.count},
    )


def _created_at(metadata: resources.Metadata) -> datetime:
    if metadata.creation_timestamp is None:
        raise ValueError("metadata.creationTimestamp is missing")
    return metadata.creation_timestamp


def pending_by_queue(state: KueueState) -> dict[str, frozenset[tuple[str, int]]]:
    """Return key and priority of the pending workloads of each ClusterQueue: their order depends on both."""
    pending: dict[str, set[tuple[str, int]]] = {}
    for workload in state.workloads:
        if workload.finished or workload.quota_reserved or not workload.spec.active:
            continue
        if queue := state.queue_of(workload):
            pending.setdefault(queue.metadata.name, set()).add((workload.key, workload.spec.priority))
    return {name: frozenset(keys) for name, keys in pending.items()}


def observed_state(observation: ClusterObservation) -> ObservedClusterState:
    """Return the domain's view of an observation."""
    snapshot, free = snapshot_from_cluster(observation.state), _free_gpus(observation)
    projects = {each.project.name: each.project.id for each in observation.projects}
    return ObservedClusterState(
        pools=tuple(
            parsed.pool.model_copy(update={"free_gpus": free.get(parsed.pool.name)}) for parsed in observation.pools
        ),
        projects=tuple(observation.projects),
        snapshot=snapshot,
        reasons=pending_reasons(observation, snapshot, free),
        reservations=reservations_from_workloads(
            observation.state, observation.deleted_workloads, ModelServers(observation.apps, projects)
        ),
        notes=(*unsupported_settings(observation.state), *observation.notes),
    )


def _free_gpus(observation: ClusterObservation) -> dict[str, tuple[int, ...]]:
    """Return the free GPUs on the nodes of each pool; none if nodes or pods cannot be read."""
    nodes, pods = observation.nodes, observation.pods
    if nodes is None or pods is None:
        return {}
    return {parsed.pool.name: free_gpus(parsed.resource, nodes.values(), pods) for parsed in observation.pools}


def pending_reasons(
    observation: ClusterObservation, snapshot: Snapshot, free: Mapping[str, tuple[int, ...]]
) -> dict[str, Reason]:
    """Return why each workload of a project does not run, by the job of its demand; running workloads have none."""
    state, predicted = observation.state, schedule(snapshot).waiting
    pods = _pods_by_workload(observation.pods or (), state.workloads)
    reasons: dict[str, Reason] = {}
    for workload in state.workloads:
        if workload.finished or project_of(workload.metadata.namespace) is None:
            continue
        if observation.pods is None and workload.admitted and not workload.evicted:
            continue  # only its pods show whether it runs
        job, queue = state.jobs[workload.key], state.queue_of(workload)
        owner = workload.metadata.owner
        reason = explain_waiting_job(
            WorkloadObservation(
                workload=workload,
                state=state,
                pending=observation.pending_workloads.get(queue.metadata.name) if queue else None,
                predicted=predicted.get(job),
                pods=tuple(pods.get(workload.key, ())),
                nodes=observation.nodes,
                free_gpus=free.get(state.pool_of(queue)) if queue else None,
                events=tuple(observation.events),
            ),
            observation.ray_jobs.get(owner.uid) if owner is not None else None,
        )
        if reason is not None:
            reasons[job] = reason
    return reasons


def _pods_by_workload(pods: Iterable[Pod], workloads: Iterable[Workload]) -> dict[str, list[Pod]]:
    """Return the pods of each workload: those annotated with its name, or with the same owner."""
    by_owner = {
        (workload.metadata.namespace, workload.metadata.owner.uid): workload.key
        for workload in workloads
        if workload.metadata.owner
    }
    result: dict[str, list[Pod]] = {}
    for pod in pods:
        namespace, owner = pod.metadata.namespace, pod.metadata.owner
        name = pod.metadata.annotations.get(WORKLOAD_ANNOTATION)
        key = f"{namespace}/{name}" if name else by_owner.get((namespace, owner.uid)) if owner else None
        if key is not None:
            result.setdefault(key, []).append(pod)
    return result
