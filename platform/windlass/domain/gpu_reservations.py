"""GPU time: how long each job, warm trainer or model server held GPUs of its project's quota. No I/O."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Self

from windlass.domain.jobs import Attempt, AttemptState, DomainModel, Job, Run
from windlass.domain.reports import PhaseSeconds
from windlass.domain.served_gpus import is_model_server_key
from windlass.domain.usage import (
    MICRO,
    GpuUsage,
    Interval,
    Month,
    MonthUsage,
    Prices,
    ReservationKind,
    UsageParts,
    split_by_month,
)
from windlass.domain.warm_trainers import is_warm_trainer_name


class GpuResize(DomainModel):
    """Another number of GPUs, from a moment on."""

    at: datetime
    gpus: int


class GpuReservation(DomainModel):
    """GPUs that a job held of its project's quota, from the admission until the quota was free for others.

    Warm trainers without a run and model servers of endpoints hold GPUs too; their ``api_key`` is empty, and ``model``
    of a warm trainer.
    """

    project: str
    job: str
    """Id of the job, name of the warm trainer, or key of the model server (``served_gpus``)."""
    holder: str
    """What held them: the uid of a Workload in a cluster, else the id of a run."""
    pool: str
    gpus: int
    """Their number at first."""
    reserved_at: datetime
    released_at: datetime | None = None
    """None: the job still holds them."""
    resizes: tuple[GpuResize, ...] = ()
    """Later numbers of a model server that has got fewer replicas, by time."""
    api_key: str = ""
    """Id of the API key with which the job was submitted."""
    model: str = ""
    """Name of the model that the job trains, or that the endpoint serves."""
    endpoint: str = ""
    """Name of the endpoint of a model server."""
    settlement: tuple[MonthUsage, ...] | None = None
    """What the sums of the months contain of it; None: nothing yet."""

    @property
    def kind(self) -> ReservationKind:
        """What holds them."""
        if is_model_server_key(self.job):
            return ReservationKind.ENDPOINT
        return ReservationKind.WARM_TRAINER if is_warm_trainer_name(self.job) else ReservationKind.JOB

    @classmethod
    def of_run(cls, run: Run, job: Job) -> Self:
        """Return the reservation of a run that was created when its job was admitted."""
        resources = job.spec.resources
        return cls(
            project=run.project,
            job=run.job,
            holder=run.id,
            pool=resources.pool,
            gpus=resources.gpus,
            reserved_at=run.created_at,
            released_at=run.ended_at,
            api_key=job.created_with,
            model=job.spec.model,
        )

    @property
    def last_gpus(self) -> int:
        """Their number since the last change."""
        return self.resizes[-1].gpus if self.resizes else self.gpus

    def resized(self, gpus: int, at: datetime) -> Self:
        """Return it with a number of GPUs from a moment on; a moment before the last change counts as that of it."""
        if gpus == self.last_gpus:
            return self
        last = self.resizes[-1].at if self.resizes else self.reserved_at
        resize = GpuResize(at=max(at, last), gpus=gpus)
        return self.model_copy(update={"resizes": (*self.resizes, resize)})

    def holdings(self, now: datetime) -> Iterator[tuple[Interval, int]]:
        """Yield the intervals of a constant number of GPUs with it, until ``now`` if it still holds them."""
        end = self.released_at or now
        starts = [(self.reserved_at, self.gpus), *((each.at, each.gpus) for each in self.resizes)]
        ends = [*(start for start, _ in starts[1:]), end]
        for (start, gpus), until in zip(starts, ends, strict=True):
            if start < min(until, end):
                yield Interval(start, min(until, end)), gpus

    def gpu_seconds(self, now: datetime) -> float:
        """Return its GPU time, until ``now`` if it still holds the GPUs."""
        return sum(interval.microseconds * gpus for interval, gpus in self.holdings(now)) / MICRO

    def usage_in(self, used: MonthUsage) -> GpuUsage:
        """Return its usage in one month as a part of the sum that it belongs to."""
        return GpuUsage(
            project=self.project,
            month=used.month,
            pool=self.pool,
            kind=self.kind,
            api_key=self.api_key,
            model=self.model,
            endpoint=self.endpoint,
            parts=used.parts,
            cost=used.cost,
        )


def measured_parts(attempts: Iterable[Attempt]) -> UsageParts:
    """Return what the trainers of these attempts measured, for one GPU; nothing is idle."""
    total = UsageParts()
    for attempt in attempts:
        phases, kept = attempt.phases or PhaseSeconds(), attempt.kept_seconds
        if attempt.state in (AttemptState.LIVE, AttemptState.FINISHED):
            kept = phases.training
        training, productive = _micros(phases.training), _micros(min(kept, phases.training))
        total += UsageParts(
            productive=productive,
            data_wait=_micros(phases.data_wait),
            loading=_micros(phases.loading),
            evaluation=_micros(phases.evaluation),
            lost=training - productive,
        )
    return total


def _micros(seconds: float) -> int:
    return round(seconds * MICRO)


def attempts_by_reservation(
    reservations: Sequence[GpuReservation], attempts: Iterable[Attempt]
) -> dict[tuple[str, datetime], list[Attempt]]:
    """Assign the attempts of one job to its reservations, by ``(holder, reserved_at)``.

    An attempt belongs to the last reservation that began before it: a trainer starts after its quota was reserved.
    """
    ordered = sorted(reservations, key=lambda each: (each.reserved_at, each.holder))
    assigned: dict[tuple[str, datetime], list[Attempt]] = {(each.holder, each.reserved_at): [] for each in ordered}
    starts = [each.reserved_at for each in ordered]
    for attempt in attempts if ordered else ():
        owner = ordered[max(0, bisect_right(starts, attempt.acquired_at) - 1)]
        assigned[owner.holder, owner.reserved_at].append(attempt)
    return assigned


def usage_by_month(
    reservation: GpuReservation, attempts: Iterable[Attempt], prices: Prices, now: datetime
) -> list[MonthUsage]:
    """Return what a reservation used in each month, until ``now`` if it still holds the GPUs.

    The time of a month is exact. What it was used for is divided in proportion to the time of the months.
    """
    lengths: dict[Month, int] = {}
    costs: dict[Month, int] = {}
    for held, gpus in reservation.holdings(now):
        for month, interval in split_by_month(held):
            lengths[month] = lengths.get(month, 0) + interval.microseconds * gpus
            costs[month] = costs.get(month, 0) + prices.cost(reservation.pool, interval, gpus)
    total = sum(lengths.values())
    if reservation.kind is ReservationKind.ENDPOINT:
        parts = UsageParts(serving=total)
    else:
        parts = measured_parts(attempts).scaled_by(reservation.gpus).within(total)
    return [
        MonthUsage(month=month, parts=share, cost=costs[month])
        for month, share in zip(lengths, parts.split(list(lengths.values())), strict=True)
    ]
