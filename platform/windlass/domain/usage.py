"""Metered use of GPUs and endpoints: GPU time by month, what it was used for, its cost; requests, tokens. No I/O.

GPU time is counted in microseconds of one GPU, cost in millionths of the currency unit, so that sums are exact.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import Field, StringConstraints

from windlass.domain.ids import MAX_INTEGER
from windlass.domain.jobs import DomainModel

Month = Annotated[str, StringConstraints(pattern=r"^(19[7-9]|[2-8]\d\d)\d-(0[1-9]|1[0-2])$")]
"""A calendar month in UTC, such as ``2026-11``. It contains its first moment, and not that of the next month."""
MICRO: Final = 1_000_000
_HOUR: Final = 3600 * MICRO
_MICROSECOND = timedelta(microseconds=1)


class Interval(NamedTuple):
    """A half-open interval of time."""

    start: datetime
    end: datetime

    @property
    def microseconds(self) -> int:
        """Its length; 0 if it ends before it starts."""
        return max(0, (self.end - self.start) // _MICROSECOND)

    def overlap(self, other: "Interval") -> "Interval":
        """Return what both contain."""
        return Interval(max(self.start, other.start), min(self.end, other.end))


def month_of(time: datetime) -> Month:
    """Return the month of a moment."""
    return time.astimezone(UTC).strftime("%Y-%m")


def month_interval(month: Month) -> Interval:
    """Return the time of a month."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    return Interval(start, (start + timedelta(days=31)).replace(day=1))


def split_by_month(interval: Interval) -> Iterator[tuple[Month, Interval]]:
    """Yield the months of an interval with its part in each; an empty interval has none."""
    start = interval.start
    while start < interval.end:
        month = month_of(start)
        end = min(month_interval(month).end, interval.end)
        yield month, Interval(start, end)
        start = end


class ReservationKind(StrEnum):
    """What holds reserved GPUs."""

    JOB = "job"
    WARM_TRAINER = "warm-trainer"
    ENDPOINT = "endpoint"


class UsageParts(DomainModel):
    """GPU time by what it was used for, in microseconds of one GPU. The parts sum to the reserved time exactly."""

    productive: int = Field(default=0, ge=0)
    """Optimizer steps whose work was kept."""
    data_wait: int = Field(default=0, ge=0)
    """The training waited for its next batch."""
    loading: int = Field(default=0, ge=0)
    """Start of the trainer, and loading of model and data."""
    evaluation: int = Field(default=0, ge=0)
    """Evaluations and checkpoints, and writing the artifact."""
    lost: int = Field(default=0, ge=0)
    """Optimizer steps of a trainer that was preempted or lost, after its last checkpoint."""
    serving: int = Field(default=0, ge=0)
    """Replicas of endpoints, whether they answer requests or not."""
    idle: int = Field(default=0, ge=0)
    """Reserved, and no trainer has reported what it did."""

    @property
    def total(self) -> int:
        """The reserved time."""
        return sum(self.model_dump().values())

    def __add__(self, other: "UsageParts") -> Self:
        return self._combined(other, 1)

    def __sub__(self, other: "UsageParts") -> Self:
        return self._combined(other, -1)

    def _combined(self, other: "UsageParts", sign: int) -> Self:
        return type(self)(**{name: value + sign * getattr(other, name) for name, value in self})

    def scaled_by(self, gpus: int) -> Self:
        """Return the time of several GPUs."""
        return type(self)(**{name: value * gpus for name, value in self})

    def within(self, reserved: int) -> Self:
        """Return the parts with ``idle`` as the rest of the reserved time.

        What was measured beyond it, as by clocks that differ, is cut off.
        """
        left, parts = reserved, {}
        for name, value in self:
            parts[name] = min(value, left) if name != "idle" else left
            left -= parts[name]
        return type(self)(**parts)

    def split(self, lengths: Sequence[int]) -> list[Self]:
        """Divide the parts in proportion to ``lengths``, whose sum is ``total``; each share has exactly its length."""
        left, rest = dict(self), sum(lengths)
        shares = []
        for length in lengths:
            exact = {name: divmod(value * length, rest) if rest else (0, 0) for name, value in left.items()}
            share = {name: quotient for name, (quotient, _) in exact.items()}
            missing = length - sum(share.values())
            # the largest remainders get the rounded units: as many parts have a remainder, so none gets too much
            for name in sorted(exact, key=lambda name: (-exact[name][1], name))[:missing]:
                share[name] += 1
            left = {name: value - share[name] for name, value in left.items()}
            rest -= length
            shares.append(type(self)(**share))
        return shares


class PoolPrice(DomainModel):
    """The price of a GPU hour of a pool, from a moment until the next price of the pool."""

    pool: str
    """Name of the pool."""
    valid_from: datetime
    micros_per_gpu_hour: int
    """In millionths of the currency unit."""


class Prices:
    """The prices of pools over time."""

    def __init__(self, prices: Iterable[PoolPrice]) -> None:
        self._by_pool: dict[str, list[PoolPrice]] = {}
        for price in sorted(prices, key=lambda price: price.valid_from):
            self._by_pool.setdefault(price.pool, []).append(price)

    def cost(self, pool: str, interval: Interval, gpus: int) -> int:
        """Return the cost of an interval at the prices that held during it.

        Before the first known price of a pool, that one holds. Each price is rounded on its own to a millionth.
        """
        history = self._by_pool.get(pool, [])
        if not history:
            return 0
        starts = [price.valid_from for price in history]
        first = max(0, bisect_right(starts, interval.start) - 1)
        cost = 0
        for index in range(first, len(history)):
            start = interval.start if index == first else starts[index]
            end = starts[index + 1] if index + 1 < len(history) else interval.end
            length = interval.overlap(Interval(start, end)).microseconds
            cost += (length * gpus * history[index].micros_per_gpu_hour + _HOUR // 2) // _HOUR
        return cost


def to_micros(amount: float) -> int:
    """Return an amount of money in millionths of the currency unit."""
    return round(amount * MICRO)


class MonthUsage(DomainModel):
    """What a reservation used in one month."""

    month: Month
    parts: UsageParts
    cost: int
    """In millionths of the currency unit."""


class GpuUsage(DomainModel):
    """The sum of the settled reservations of a project in a month, by what identifies them."""

    project: str
    month: Month
    pool: str
    kind: ReservationKind
    api_key: str
    """Id of the API key with which the jobs were submitted; empty if it is not known, and for all but jobs."""
    model: str
    """Name of the model that the jobs train or the endpoint serves; empty for a warm trainer."""
    endpoint: str = ""
    """Name of the endpoint; empty for all but endpoints."""
    parts: UsageParts
    cost: int
    """In millionths of the currency unit."""
    version: int = 1

    @property
    def group(self) -> tuple[str, str, str, ReservationKind, str, str, str]:
        """What identifies the sum."""
        return (self.project, self.month, self.pool, self.kind, self.api_key, self.model, self.endpoint)

    def plus(self, other: "GpuUsage", sign: int = 1) -> Self:
        """Return the sum with another usage of the same group, or the difference."""
        parts = self.parts + other.parts if sign > 0 else self.parts - other.parts
        return self.model_copy(update={"parts": parts, "cost": self.cost + sign * other.cost})


def add_usage(sums: dict[Any, GpuUsage], usage: GpuUsage) -> None:
    """Add a usage to the sum of its group."""
    known = sums.get(usage.group)
    sums[usage.group] = usage if known is None else known.plus(usage)


class RequestCounts(DomainModel):
    """Requests to endpoints by outcome, and the tokens that their replies report."""

    succeeded: int = 0
    rejected: int = 0
    """The request was wrong, or the model server was busy: a status of 4xx."""
    failed: int = 0
    """The model server failed, or was not reached."""
    cancelled: int = 0
    """The client disconnected before the end of the reply."""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "RequestCounts") -> Self:
        return type(self)(**{name: value + getattr(other, name) for name, value in self})

    @property
    def requests(self) -> int:
        """The requests of all outcomes."""
        return self.succeeded + self.rejected + self.failed + self.cancelled


class RequestGroup(NamedTuple):
    """What requests are counted by."""

    project: str
    api_key: str
    endpoint: str
    model: str
    number: int


class RequestUsage(DomainModel):
    """The requests of one group in a time."""

    project: str
    api_key: str
    endpoint: str
    """Name of the endpoint."""
    model: str
    number: int
    """Number of the model version that served them."""
    counts: RequestCounts

    @classmethod
    def of(cls, group: RequestGroup, counts: RequestCounts) -> Self:
        """Return the counts of a group."""
        return cls(**group._asdict(), counts=counts)


def parse_usage(reply: object) -> tuple[int, int]:
    """Return the prompt and completion tokens that a JSON reply reports in ``usage``, as the OpenAI API does."""
    usage = reply.get("usage") if isinstance(reply, Mapping) else None
    if not isinstance(usage, Mapping):
        return 0, 0
    values = (usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens"))
    prompt, completion = (value if isinstance(value, int) and 0 < value <= MAX_INTEGER else 0 for value in values)
    return prompt, completion
