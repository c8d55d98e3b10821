"""Adds ended GPU reservations to the sums of their months, and reads what the others have used so far.

A reservation is settled when it has ended and its attempts have too, since their end decides which work was lost. It
keeps what it has added: a reservation that the cluster shows again is subtracted first.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from windlass.domain.gpu_reservations import GpuReservation, attempts_by_reservation, usage_by_month
from windlass.domain.jobs import Attempt, AttemptState
from windlass.domain.usage import GpuUsage, Month, MonthUsage, Prices, add_usage
from windlass.ports import (
    AllProjectsData,
    ReadUnitOfWork,
    ReadUsageData,
    UnitOfWork,
    WorkerReadUnitOfWork,
    WorkerUnitOfWork,
)

_DELAY: Final = timedelta(minutes=2)
"""How long a reservation has ended when it is settled: a Workload that could not be read for a moment shows again."""
_SETTLED: Final = 200
"""Reservations of one transaction."""


def read_prices(uow: ReadUnitOfWork, pools: Iterable[str]) -> Prices:
    """Read the prices of these pools."""
    return Prices(uow.pool_prices.all({"pool": sorted(set(pools))}))


def usage_of(
    repos: ReadUsageData, reservations: Sequence[GpuReservation], prices: Prices, now: datetime
) -> Iterator[tuple[GpuReservation, list[MonthUsage]]]:
    """Yield reservations with what they have used in each month, as settled or until ``now``.

    ``reservations`` have all unsettled ones of a job, or none.
    """
    unsettled = [each for each in reservations if each.settlement is None]
    attempts = _attempts(repos, unsettled)
    for each in reservations:
        if each.settlement is not None:
            yield each, list(each.settlement)
        else:
            yield each, usage_by_month(each, attempts.get((each.job, each.holder, each.reserved_at), ()), prices, now)


def _attempts(
    repos: ReadUsageData, unsettled: Sequence[GpuReservation]
) -> dict[tuple[str, str, datetime], list[Attempt]]:
    """Return the attempts of each reservation. A settled reservation of the same job keeps its own."""
    jobs = sorted({each.job for each in unsettled})
    if not jobs:
        return {}
    by_job: dict[str, list[Attempt]] = {}
    for attempt in repos.attempts.all({"job": jobs}):
        by_job.setdefault(attempt.job, []).append(attempt)
    assigned = {}
    of_jobs = sorted(repos.gpu_reservations.all({"job": sorted(by_job)}), key=lambda each: each.job) if by_job else []
    for job, group in groupby(of_jobs, key=lambda each: each.job):
        for (holder, reserved_at), owned in attempts_by_reservation(list(group), by_job[job]).items():
            assigned[job, holder, reserved_at] = owned
    return assigned


def unsettled_usage(
    uow: ReadUnitOfWork, repos: ReadUsageData, now: datetime, month: Month, *, with_parts: bool = True
) -> list[GpuUsage]:
    """Return the sums of a month over the reservations that are not settled; without parts all time is idle."""
    reservations = repos.gpu_reservations.all({"settlement": None})
    if not reservations:
        return []
    prices = read_prices(uow, (each.pool for each in reservations))
    used = (
        usage_of(repos, reservations, prices, now)
        if with_parts
        else ((each, usage_by_month(each, (), prices, now)) for each in reservations)
    )
    sums: dict[object, GpuUsage] = {}
    for reservation, months in used:
        for each in months:
            if each.month == month:
                add_usage(sums, reservation.usage_in(each))
    return list(sums.values())


def settle_ended(uow: WorkerUnitOfWork, now: datetime) -> bool:
    """Settle a bounded number of reservations that have ended; return whether any was."""
    repos = uow.all_projects()
    ended = [
        each
        for each in repos.gpu_reservations.all({"settlement": None})
        if each.released_at is not None and each.released_at <= now - _DELAY
    ]
    live = repos.attempts.all({"job": sorted({each.job for each in ended}), "state": AttemptState.LIVE})
    with_live = {attempt.job for attempt in live}
    due = sorted((each for each in ended if each.job not in with_live), key=lambda each: each.reserved_at)[:_SETTLED]
    settle(uow, repos, due, now)
    return bool(due)


def has_ended(uow: WorkerReadUnitOfWork, now: datetime) -> bool:
    """Return whether there may be a reservation to settle."""
    unsettled = uow.all_projects().gpu_reservations.all({"settlement": None})
    return any(each.released_at is not None and each.released_at <= now - _DELAY for each in unsettled)


def settle(uow: UnitOfWork, repos: AllProjectsData, reservations: Sequence[GpuReservation], now: datetime) -> None:
    """Add reservations to the sums of their months. One that has not been released ends now."""
    unsettled = [
        each if each.released_at is not None else each.model_copy(update={"released_at": max(now, each.reserved_at)})
        for each in reservations
        if each.settlement is None
    ]
    if not unsettled:
        return
    prices = read_prices(uow, (each.pool for each in unsettled))
    sums: dict[object, GpuUsage] = {}
    for reservation, months in list(usage_of(repos, unsettled, prices, now)):
        for each in months:
            add_usage(sums, reservation.usage_in(each))
        repos.gpu_reservations.save(reservation.model_copy(update={"settlement": tuple(months)}))
    for usage in sums.values():
        _add(repos, usage, 1)


def unsettle(repos: AllProjectsData, reservation: GpuReservation) -> GpuReservation:
    """Subtract a reservation from the sums of its months; return it unsettled."""
    for each in reservation.settlement or ():
        _add(repos, reservation.usage_in(each), -1)
    return reservation.model_copy(update={"settlement": None})


def _add(repos: AllProjectsData, usage: GpuUsage, sign: int) -> None:
    stored = repos.gpu_usage.find(
        {
            "project": usage.project,
            "month": usage.month,
            "pool": usage.pool,
            "kind": usage.kind,
            "api_key": usage.api_key,
            "model": usage.model,
            "endpoint": usage.endpoint,
        }
    )
    if stored is None:
        repos.gpu_usage.add(usage)
    else:
        repos.gpu_usage.save(stored.plus(usage, sign))
