"""Keeps the GPU reservations: in a cluster, Kueue's objects show the last one only, and are deleted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.cluster_sync import ObservedReservation
from windlass.domain.endpoints import parse_app_key
from windlass.domain.gpu_reservations import GpuReservation
from windlass.domain.jobs import Run
from windlass.domain.served_gpus import Place, by_model_server, is_model_server_key, replaced_at, without_replaced
from windlass.ports import AllProjectsData, ReadAllProjectsData
from windlass.ports.filters import GpuReservationFilter
from windlass.services.settlement import unsettle


@dataclass(frozen=True)
class ReservationChanges:
    """Reservations to add and to replace, so that the database matches the cluster."""

    added: Sequence[GpuReservation] = ()
    changed: Sequence[GpuReservation] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.added or self.changed)

    def write(self, repos: AllProjectsData) -> bool:
        """Write them; return whether there were any."""
        for reservation in self.added:
            repos.gpu_reservations.add(reservation)
        for reservation in self.changed:
            repos.gpu_reservations.save(unsettle(repos, reservation))
        return bool(self)


def release_gpus(repos: AllProjectsData, run: Run, now: datetime) -> None:
    """Store that a run holds no GPUs any more. In a cluster its Workload holds them, not the run."""
    held = repos.gpu_reservations.find({"job": run.job, "holder": run.id, "released_at": None})
    if held is not None:
        repos.gpu_reservations.save(held.model_copy(update={"released_at": max(held.reserved_at, now)}))


def reservation_changes(
    repos: ReadAllProjectsData, observed: Iterable[ObservedReservation], now: datetime
) -> ReservationChanges:
    """Return what differs between the stored reservations of all projects and the observed ones.

    Times are Kueue's. It does not show when a Workload with quota was deleted, and when a model server got fewer
    replicas: those are ``now``. A Workload has two holders if it began as a warm trainer: that one, and the job that
    claimed it.
    """
    seen = {(each.workload, each.job): each for each in without_replaced(observed)}
    servers = by_model_server(seen.values())
    held = {(each.holder, each.job): each for each in repos.gpu_reservations.all({"released_at": None})}
    changed = []
    for key, each in held.items():
        found = seen.get(key)
        if found is None or not _holds(each, found):
            changed.append(each.model_copy(update={"released_at": _released_at(each, found, servers, now)}))
        elif is_model_server_key(each.job) and found.gpus != each.last_gpus:
            changed.append(each.resized(found.gpus, now))
    others = [each for key, each in seen.items() if each.gpus and not _is_stored(each, held.get(key))]
    if not others:
        return ReservationChanges(changed=changed)
    added, reopened = _new_reservations(repos, others)
    return ReservationChanges(added=added, changed=[*changed, *reopened])


def _new_reservations(
    repos: ReadAllProjectsData, observed: Sequence[ObservedReservation]
) -> tuple[list[GpuReservation], list[GpuReservation]]:
    """Return the reservations that are not stored yet, and those that are stored as released but hold GPUs."""
    where: GpuReservationFilter = {
        "job": [each.job for each in observed],
        "holder": [each.workload for each in observed],
    }
    stored = {(each.holder, each.job, each.reserved_at): each for each in repos.gpu_reservations.all(where)}
    jobs = {job.id: job for job in repos.jobs.all({"id": [each.job for each in observed]})}
    added, reopened = [], []
    unknown = []
    for each in observed:
        known = stored.get((each.workload, each.job, each.reserved_at)) if each.reserved_at is not None else None
        job = jobs.get(each.job)
        if known is not None and known.released_at is not None and each.released_at is None:
            reopened.append(known.model_copy(update={"released_at": None}))  # it could not be read for a while
        elif known is None and job is not None:
            added.append(_reservation(each, job.project, api_key=job.created_with, model=job.spec.model))
        elif known is None and each.project:
            added.append(_reservation(each, each.project))
        elif known is None and is_model_server_key(each.job):
            unknown.append(each)
    return [*added, *_of_model_servers(repos, unknown)], reopened


def _of_model_servers(repos: ReadAllProjectsData, observed: Sequence[ObservedReservation]) -> list[GpuReservation]:
    """Return the reservations of the model servers of this control plane."""
    apps = {each.app: ids for each in observed if (ids := parse_app_key(each.app)) is not None}
    if not apps:
        return []
    endpoints = {each.id: each for each in repos.endpoints.all({"id": [endpoint for endpoint, _ in apps.values()]})}
    versions = repos.model_versions.all({"id": [version for _, version in apps.values()]})
    names = {each.id: each.name for each in repos.models.all({"id": [version.model for version in versions]})}
    models = {(version.project, version.id): names.get(version.model, "") for version in versions}
    reservations = []
    for each in observed:
        endpoint_id, version_id = apps.get(each.app, ("", ""))
        endpoint = endpoints.get(endpoint_id)
        # who may create RayServices in a namespace could name the endpoint of another project
        if endpoint is not None and endpoint.project == each.namespace_project:
            model = models.get((endpoint.project, version_id), "")
            reservations.append(_reservation(each, endpoint.project, endpoint=endpoint.name, model=model))
    return reservations


def _is_stored(observed: ObservedReservation, held: GpuReservation | None) -> bool:
    return held is not None and held.reserved_at == observed.reserved_at


def _holds(held: GpuReservation, observed: ObservedReservation) -> bool:
    return _is_stored(observed, held) and observed.released_at is None


def _released_at(
    held: GpuReservation,
    observed: ObservedReservation | None,
    servers: Mapping[str, Sequence[ObservedReservation]],
    now: datetime,
) -> datetime:
    if observed is None:
        place = Place(held.reserved_at, held.last_gpus, held.holder)
        end = replaced_at(place, servers.get(held.job, ())) or now
    elif observed.reserved_at is not None and observed.reserved_at != held.reserved_at:
        end = observed.reserved_at  # evicted and admitted again since the last observation
    else:
        end = observed.released_at or now
    return max(held.reserved_at, end)


def _reservation(observed: ObservedReservation, project: str, **more: str) -> GpuReservation:
    fields = observed.model_dump(exclude={"workload", "project", "app", "namespace_project"})
    return GpuReservation(project=project, holder=observed.workload, **fields, **more)
