"""Requests to an endpoint over time: how they ended, and how long they took. No I/O.

Latencies are counted in buckets, so that the counts of several replicas of the API and of several minutes add up.
"""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from windlass.domain.errors import FieldProblem, InvalidError
from windlass.domain.jobs import DomainModel
from windlass.domain.usage import Interval

LATENCY_BOUNDS: Final = (
    *(5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750),
    *(1000, 1500, 2000, 3000, 5000, 7500, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000),
)
"""Upper bounds of the buckets in milliseconds; one more bucket has what took longer."""
BUCKETS: Final = len(LATENCY_BOUNDS) + 1
MINUTE: Final = timedelta(minutes=1)
MAX_POINTS: Final = 500
_DEFAULT_POINTS: Final = 300
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS: Final = tuple(timedelta(minutes=each) for each in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440))


def bucket_of(milliseconds: float) -> int:
    """Return the index of the bucket of a latency."""
    return bisect_left(LATENCY_BOUNDS, milliseconds)


class TrafficCounts(DomainModel):
    """Requests by outcome, and the latencies of those that succeeded."""

    succeeded: int = 0
    rejected: int = 0
    """A status of 4xx."""
    failed: int = 0
    """A status of 5xx; timeouts too."""
    cancelled: int = 0
    """The client disconnected before the end of the reply."""
    latencies: tuple[int, ...] = (0,) * BUCKETS
    """Number of requests in each bucket."""

    def __add__(self, other: "TrafficCounts") -> Self:
        latencies = tuple(map(sum, zip(self.latencies, other.latencies, strict=True)))
        names = ("succeeded", "rejected", "failed", "cancelled")
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in names}, latencies=latencies)

    @property
    def requests(self) -> int:
        """The requests of all outcomes."""
        return self.succeeded + self.rejected + self.failed + self.cancelled

    def percentile(self, share: float) -> float | None:
        """Return the latency in milliseconds that a share of the requests does not exceed; None without requests.

        It is interpolated in its bucket. In the last bucket it is the lower bound.
        """
        total = sum(self.latencies)
        if total == 0:
            return None
        left = share * total
        for index, count in enumerate(self.latencies[:-1]):
            if left <= count and count:
                low = LATENCY_BOUNDS[index - 1] if index else 0
                return low + (LATENCY_BOUNDS[index] - low) * left / count
            left -= count
        return float(LATENCY_BOUNDS[-1])


class EndpointMinute(DomainModel):
    """The requests to an endpoint in a minute."""

    project: str
    endpoint: str
    """Name of the endpoint."""
    minute: datetime
    counts: TrafficCounts


class TrafficPoint(DomainModel):
    """The requests to an endpoint that ended in a step of a series."""

    at: datetime
    """Start of the step."""
    counts: TrafficCounts


class TrafficSeries(DomainModel):
    """The requests to an endpoint over time."""

    interval: Interval
    step: timedelta
    points: tuple[TrafficPoint, ...]
    """One for each step, also without requests."""

    @property
    def total(self) -> TrafficCounts:
        """The requests of all points."""
        return sum((point.counts for point in self.points), TrafficCounts())


def floor_time(time: datetime, step: timedelta) -> datetime:
    """Return the start of the step that contains a time; steps are counted from 1970."""
    return time - (time - _EPOCH) % step


def traffic_steps(interval: Interval, step: timedelta | None) -> tuple[Interval, timedelta]:
    """Return an interval extended to whole steps, and the step: by default the shortest that gives few points.

    Raises:
        InvalidError: the interval is empty, or the step is not of whole minutes or gives too many points.
    """
    if interval.end <= interval.start:
        problem = FieldProblem("/query/since", "not before until")
        raise InvalidError("since is not before until", fields=[problem], hint="give a time before until")
    length = interval.end - interval.start
    if step is None:
        step = next((each for each in _STEPS if length <= each * _DEFAULT_POINTS), _STEPS[-1])
    if step < MINUTE or step % MINUTE:
        problem = FieldProblem("/query/step", "not a multiple of 60")
        raise InvalidError("the step is not of whole minutes", fields=[problem], hint="give a multiple of 60 seconds")
    start = floor_time(interval.start, step)
    end = floor_time(interval.end - timedelta.resolution, step) + step
    if (end - start) // step > MAX_POINTS:
        problem = FieldProblem("/query/step", f"more than {MAX_POINTS} points")
        raise InvalidError(
            f"there are more than {MAX_POINTS} steps of {step.total_seconds():g} s in this time",
            fields=[problem],
            hint="give a longer step or a shorter time",
        )
    return Interval(start, end), step
