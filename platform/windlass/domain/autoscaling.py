"""How many replicas an application should have: one pure function of its load, called on every pass.

The rules and delays are those of Ray Serve, which scales the applications of a server on one machine.
"""

import math
from dataclasses import dataclass, replace

from pydantic import Field

from windlass.domain.endpoints import ReplicaRange
from windlass.domain.jobs import DomainModel

_TOLERANCE = 1e-6
"""Rounding error of an average that must not demand another replica."""


@dataclass(frozen=True, slots=True)
class ScalingDelays:
    """Seconds for which the load must demand another number of replicas before it is set."""

    upscale: float = 0.0
    """For more replicas. The first one, for a request that waits, is always started at once."""
    downscale: float = 60.0
    """For fewer replicas, of which one is left."""
    to_zero: float = 300.0
    """From one replica to none."""


class RequestLoad(DomainModel):
    """The requests that one replica of the API forwards, and those that it holds."""

    instance: str
    """The replica of the API."""
    sequence: int
    """Changes with every report: an instance whose number stays the same has died."""
    ongoing: dict[str, float] = Field(default_factory=dict)
    """By key of the application: requests at the same time, averaged since the last report."""


@dataclass(frozen=True, slots=True)
class ScalingHistory:
    """Since when the load has demanded more, or fewer, replicas than there are."""

    since: float
    demand: int
    """The demand of that time that is nearest to the number of replicas."""


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The number of replicas to set, and what to pass to the next call."""

    replicas: int
    history: ScalingHistory | None = None


def demanded_replicas(replicas: ReplicaRange, ongoing: float, ready: int) -> int:
    """Return the number of replicas that the load demands.

    While none is ready, requests wait for the first one, so that more are not demanded. In a cluster this also returns
    an application whose replicas were all preempted to the fewest ones.
    """
    if ongoing <= 0:
        return replicas.min
    fewest = max(1, replicas.min)
    if ready == 0:
        return fewest
    return max(fewest, min(math.ceil(ongoing / replicas.target_ongoing_requests - _TOLERANCE), replicas.max))


def scale(
    replicas: ReplicaRange,
    delays: ScalingDelays,
    *,
    current: int,
    ready: int,
    ongoing: float,
    history: ScalingHistory | None,
    now: float,
) -> ScalingDecision:
    """Return the number of replicas to set.

    Args:
        replicas: the range and the target.
        delays: how long the demand must last.
        current: the number that was set last.
        ready: the replicas that answer requests.
        ongoing: the requests at the same time, those that wait for a replica included.
        history: that of the last decision; None after a start.
        now: a monotonic clock in seconds.
    """
    if not replicas.min <= current <= replicas.max:
        return ScalingDecision(max(replicas.min, min(current, replicas.max)))
    demand = demanded_replicas(replicas, ongoing, ready)
    if demand == current:
        return ScalingDecision(current)
    more = demand > current
    if history is None or history.demand == current or (history.demand > current) != more:
        history = ScalingHistory(now, demand)
    else:
        nearest = min if more else max
        history = replace(history, demand=nearest(history.demand, demand))
    if now - history.since < _delay(delays, current, more=more):
        return ScalingDecision(current, history)
    # the last replica has a longer delay of its own
    return ScalingDecision(history.demand if more or current == 1 else max(1, history.demand))


def _delay(delays: ScalingDelays, current: int, *, more: bool) -> float:
    if more:
        return 0.0 if current == 0 else delays.upscale
    return delays.to_zero if current == 1 else delays.downscale
