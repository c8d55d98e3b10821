"""When the Workloads of jobs and model servers reserved and released quota, from their conditions; pure.

Kueue reserves quota when it sets ``QuotaReserved``, and releases it when a Workload is finished, or was evicted and its
pods are gone. A Workload that is deleted before that releases its quota with the deletion.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from windlass.domain.cluster_sync import ObservedReservation
from windlass.domain.served_gpus import model_server_key
from windlass.kube.kueue.snapshot import KueueState
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import project_of


class DeletedWorkload(NamedTuple):
    """A Workload as last observed before its deletion."""

    workload: Workload
    deleted_at: datetime


class ModelServers(NamedTuple):
    """What identifies the endpoints of model servers."""

    apps: Mapping[str, str] = {}
    """The application of each RayService, by its uid."""
    projects: Mapping[str, str] = {}
    """The uids of projects, by name."""


def reservations_from_workloads(
    state: KueueState, deleted: Iterable[DeletedWorkload] = (), servers: ModelServers | None = None
) -> tuple[ObservedReservation, ...]:
    """Return the reservations of the Workloads of jobs and model servers; a Workload that never had quota has none."""
    existing = [(workload, None) for workload in state.workloads]
    return tuple(
        reservation
        for workload, deleted_at in (*deleted, *existing)
        for reservation in _reservations(state, workload, deleted_at, servers or ModelServers())
    )


def _reservations(
    state: KueueState, workload: Workload, deleted_at: datetime | None, servers: ModelServers
) -> Iterator[ObservedReservation]:
    condition = workload.condition("QuotaReserved")
    if condition is None or condition.last_transition_time is None:
        return
    uid, service = workload.metadata.uid, workload.ray_service
    if service is not None:
        subject = ObservedReservation(
            workload=uid,
            job=model_server_key(service),
            app=servers.apps.get(service, ""),
            namespace_project=servers.projects.get(project_of(workload.metadata.namespace) or "", ""),
        )
    elif workload.of_job:
        subject = ObservedReservation(workload=uid, job=workload.job)
    else:
        return
    if not workload.quota_reserved:
        yield subject.model_copy(update={"released_at": condition.last_transition_time})
        return
    finished = workload.condition("Finished") if workload.finished else None
    pools = [pool for pool, resource in state.resources.items() if pool in workload.flavors(resource)]
    for pool in pools[:1]:  # the queue of a job has one pool
        yield subject.model_copy(
            update={
                "pool": pool,
                "gpus": workload.reserved(state.resources[pool]),
                "reserved_at": condition.last_transition_time,
                "released_at": finished.last_transition_time if finished else deleted_at,
            }
        )
