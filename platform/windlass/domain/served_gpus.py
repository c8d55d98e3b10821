"""The GPU reservations of endpoints in a cluster: which Workload holds the GPUs of a model server, and when. No I/O.

Kueue counts one RayService for each served version. When there are to be more replicas, a new Workload with all of them
takes the place of the old one; when there are to be fewer, the Workload becomes smaller.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from windlass.domain.cluster_sync import ObservedReservation

_PREFIX: Final = "ray-service/"


def model_server_key(uid: str) -> str:
    """Return what identifies a model server, where jobs are identified by their id: by the uid of its RayService."""
    return f"{_PREFIX}{uid}"


def is_model_server_key(key: str) -> bool:
    """Return whether this is the key of a model server, and not the id of a job."""
    return key.startswith(_PREFIX)


class Place(NamedTuple):
    """Where a Workload stands among those of its model server: the largest one has taken the place of the others.

    Kueue's times are whole seconds. Of two Workloads of one second, the later one has more replicas.
    """

    reserved_at: datetime
    gpus: int
    holder: str
    """Uid of the Workload."""


def replaced_at(place: Place, others: Iterable[ObservedReservation]) -> datetime | None:
    """Return when another Workload of a model server took the place of one; None if none has.

    The new one holds the GPUs of all replicas, so the old one holds none from then on, whenever Kueue finishes it.
    """
    later = (other for each in others if (other := _place_of(each)) is not None and other.holder != place.holder)
    return min((other.reserved_at for other in later if other > place), default=None)


def without_replaced(observed: Iterable[ObservedReservation]) -> list[ObservedReservation]:
    """Return the reservations with those of replaced Workloads ended: at each time a model server has one at most."""
    reservations = list(observed)
    servers = by_model_server(reservations)
    return [_ended(each, servers[each.job]) if each.job in servers else each for each in reservations]


def by_model_server(observed: Iterable[ObservedReservation]) -> dict[str, list[ObservedReservation]]:
    """Return the reservations of model servers by their key."""
    servers: dict[str, list[ObservedReservation]] = {}
    for each in observed:
        if is_model_server_key(each.job):
            servers.setdefault(each.job, []).append(each)
    return servers


def _place_of(reservation: ObservedReservation) -> Place | None:
    if reservation.reserved_at is None or not reservation.gpus:
        return None
    return Place(reservation.reserved_at, reservation.gpus, reservation.workload)


def _ended(reservation: ObservedReservation, others: Iterable[ObservedReservation]) -> ObservedReservation:
    place = _place_of(reservation)
    end = replaced_at(place, others) if place is not None else None
    if end is None or (reservation.released_at is not None and reservation.released_at <= end):
        return reservation
    return reservation.model_copy(update={"released_at": end})
