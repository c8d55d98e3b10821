"""The GPU time of jobs: how long each job, or warm trainer, held GPUs of its project's quota. No I/O."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Self

from windlass.domain.jobs import Attempt, AttemptState, DomainModel, Job, Run
from windlass.domain.reports import PhaseSeconds
from windlass.domain.usage import (
    MICRO,
    GpuUsage,
    Interval,
    MonthUsage,
    Prices,
    ReservationKind,
    UsageParts,
    split_by_month,
)
from windlass.domain.warm_trainers import is_warm_trainer_name


class GpuReservation(DomainModel):
    """GPUs that a job held of its project's quota, from the admission until the quota was free for others.

    A warm trainer without a run holds GPUs too; ``api_key`` and ``model`` of its reservation are empty.
    """

    project: str
    job: str
    """Id of the job, or name of the warm trainer."""
    holder: str
    """What held them: the uid of a Workload in a cluster, else the id of a run."""
    pool: str
    gpus: int
    reserved_at: datetime
    released_at: datetime | None = None
    """None: the job still holds them."""
    api_key: str = ""
    """Id of the API key with which the job was submitted."""
    model: str = ""
    """Name of the model that the job trains."""
    settlement: tuple[MonthUsage, ...] | None = None
    """What the sums of the months contain of it; None: nothing yet."""

    @property
    def kind(self) -> ReservationKind:
        """What holds them."""
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

    def gpu_seconds(self, now: datetime) -> float:
        """Return its GPU time, until ``now`` if it still holds the GPUs."""
        return max(0.0, ((self.released_at or now) - self.reserved_at).total_seconds()) * self.gpus

    def usage_in(self, used: MonthUsage) -> GpuUsage:
        """Return its usage in one month as a part of the sum that it belongs to."""
        return GpuUsage(
            project=self.project,
            month=used.month,
            pool=self.pool,
            kind=self.kind,
            api_key=self.api_key,
            model=self.model,
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
    gpus = reservation.gpus
    held = Interval(reservation.reserved_at, reservation.released_at or now)
    months = list(split_by_month(held))
    lengths = [part.microseconds * gpus for _, part in months]
    parts = measured_parts(attempts).scaled_by(gpus).within(sum(lengths))
    return [
        MonthUsage(month=month, parts=share, cost=prices.cost(reservation.pool, interval, gpus))
        for (month, interval), share in zip(months, parts.split(lengths), strict=True)
    ]
