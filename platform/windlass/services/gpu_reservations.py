"""Keeps the GPU reservations: in a cluster, Kueue's objects show the last one only, and are deleted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.cluster_sync import ObservedReservation
from windlass.domain.gpu_reservations import GpuReservation
from windlass.domain.jobs import Run
from windlass.ports import AllProjectsData, ReadAllProjectsData
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

    Times are Kueue's. Of a Workload that was deleted with its quota, the end is ``now``. A Workload has two holders if
    it began as a warm trainer: that one, and the job that claimed it.
    """
    seen = {(each.workload, each.job): each for each in observed}
    held = {(each.holder, each.job): each for each in repos.gpu_reservations.all({"released_at": None})}
    ended = [
        each.model_copy(update={"released_at": _released_at(each, seen.get(key), now)})
        for key, each in held.items()
        if not _holds(each, seen.get(key))
    ]
    others = [each for key, each in seen.items() if each.gpus and not _is_stored(each, held.get(key))]
    if not others:
        return ReservationChanges(changed=ended)
    ids = [each.job for each in others]
    stored = {(each.holder, each.job, each.reserved_at): each for each in repos.gpu_reservations.all({"job": ids})}
    jobs = {job.id: job for job in repos.jobs.all({"id": ids})}
    added, reopened = [], []
    for each in others:
        known = stored.get((each.workload, each.job, each.reserved_at)) if each.reserved_at is not None else None
        job = jobs.get(each.job)
        if known is not None and known.released_at is not None and each.released_at is None:
            reopened.append(known.model_copy(update={"released_at": None}))  # it could not be read for a while
        elif known is None and job is not None:
            added.append(_reservation(each, job.project, api_key=job.created_with, model=job.spec.model))
        elif known is None and each.project:
            added.append(_reservation(each, each.project))
    return ReservationChanges(added=added, changed=[*ended, *reopened])


def _is_stored(observed: ObservedReservation, held: GpuReservation | None) -> bool:
    return held is not None and held.reserved_at == observed.reserved_at


def _holds(held: GpuReservation, observed: ObservedReservation | None) -> bool:
    return observed is not None and _is_stored(observed, held) and observed.released_at is None


def _released_at(held: GpuReservation, observed: ObservedReservation | None, now: datetime) -> datetime:
    if observed is None:
        end = now
    elif observed.reserved_at is not None and observed.reserved_at != held.reserved_at:
        end = observed.reserved_at  # evicted and admitted again since the last observation
    else:
        end = observed.released_at or now
    return max(held.reserved_at, end)


def _reservation(observed: ObservedReservation, project: str, **of_job: str) -> GpuReservation:
    fields = observed.model_dump(exclude={"workload", "project"})
    return GpuReservation(project=project, holder=observed.workload, **fields, **of_job)
