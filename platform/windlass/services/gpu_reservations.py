"""Keeps the GPU reservations of a cluster's jobs: Kueue's objects show the last one only, and are deleted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.cluster_sync import ObservedReservation
from windlass.domain.gpu_reservations import GpuReservation
from windlass.ports import AllProjectsData, ReadAllProjectsData


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
            repos.gpu_reservations.save(reservation)
        return bool(self)


def reservation_changes(
    repos: ReadAllProjectsData, observed: Iterable[ObservedReservation], now: datetime
) -> ReservationChanges:
    """Return what differs between the stored reservations of all projects and the observed ones.

    Times are Kueue's. Of a Workload that was deleted with its quota, the end is ``now``.
    """
    seen = {each.workload: each for each in observed}
    held = {each.holder: each for each in repos.gpu_reservations.all({"released_at": None})}
    ended = [
        each.model_copy(update={"released_at": _released_at(each, seen.get(each.holder), now)})
        for each in held.values()
        if not _holds(each, seen.get(each.holder))
    ]
    others = [each for each in seen.values() if each.gpus and not _is_stored(each, held.get(each.workload))]
    if not others:
        return ReservationChanges(changed=ended)
    ids = [each.job for each in others]
    stored = {(each.holder, each.reserved_at): each for each in repos.gpu_reservations.all({"job": ids})}
    projects = {job.id: job.project for job in repos.jobs.all({"id": ids})}
    added, reopened = [], []
    for each in others:
        known = stored.get((each.workload, each.reserved_at)) if each.reserved_at is not None else None
        if known is not None and known.released_at is not None and each.released_at is None:
            reopened.append(known.model_copy(update={"released_at": None}))  # it could not be read for a while
        elif known is None and each.job in projects:
            added.append(_reservation(each, projects[each.job]))
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


def _reservation(observed: ObservedReservation, project: str) -> GpuReservation:
    fields = observed.model_dump(exclude={"workload"})
    return GpuReservation(project=project, holder=observed.workload, **fields)
