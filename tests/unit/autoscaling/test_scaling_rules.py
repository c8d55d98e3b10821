"""The number of replicas by load: bounds, delays, and no flapping."""

import itertools
import math
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.autoscaling import ScalingDecision, ScalingDelays, ScalingHistory, demanded_replicas, scale
from windlass.domain.endpoints import ReplicaRange

DELAYS = ScalingDelays(upscale=5, downscale=60, to_zero=300)
AT_ONCE = ScalingDelays(upscale=0, downscale=0, to_zero=0)
LOADS = st.floats(0, 100, allow_nan=False)


@st.composite
def ranges(draw: st.DrawFn) -> ReplicaRange:
    least = draw(st.integers(0, 6))
    most = draw(st.integers(max(1, least), 12))
    return ReplicaRange(min=least, max=most, target_ongoing_requests=draw(st.sampled_from([0.5, 1.0, 2.0, 3.0])))


@st.composite
def situations(draw: st.DrawFn) -> tuple[ReplicaRange, int, int, ScalingHistory | None]:
    replicas = draw(ranges())
    current = draw(st.integers(replicas.min, replicas.max))
    histories = st.builds(ScalingHistory, st.floats(0, 1000), st.integers(replicas.min, replicas.max))
    return replicas, current, draw(st.integers(0, current)), draw(st.none() | histories)


def decide(
    replicas: ReplicaRange,
    current: int,
    ongoing: float,
    *,
    now: float = 1000.0,
    ready: int | None = None,
    history: ScalingHistory | None = None,
    delays: ScalingDelays = DELAYS,
) -> ScalingDecision:
    ready = current if ready is None else ready
    return scale(replicas, delays, current=current, ready=ready, ongoing=ongoing, history=history, now=now)


def simulated(
    replicas: ReplicaRange, current: int, loads: Iterable[float], delays: ScalingDelays = DELAYS
) -> list[int]:
    """Return the number of replicas after each second; replicas are ready at once."""
    history, numbers = None, []
    for second, ongoing in enumerate(loads):
        decision = decide(replicas, current, ongoing, now=float(second), history=history, delays=delays)
        current, history = decision.replicas, decision.history
        numbers.append(current)
    return numbers


@given(situations(), LOADS, st.floats(1000, 3000))
def test_the_number_stays_in_the_range(
    situation: tuple[ReplicaRange, int, int, ScalingHistory | None], ongoing: float, now: float
) -> None:
    replicas, current, ready, history = situation
    decision = decide(replicas, current, ongoing, now=now, ready=ready, history=history)
    assert replicas.min <= decision.replicas <= replicas.max
    assert replicas.min <= demanded_replicas(replicas, ongoing, ready) <= replicas.max


@given(ranges(), st.integers(0, 50), LOADS)
def test_a_number_outside_of_the_range_is_corrected_at_once(replicas: ReplicaRange, current: int, load: float) -> None:
    if not replicas.min <= current <= replicas.max:
        assert decide(replicas, current, load).replicas == (replicas.min if current < replicas.min else replicas.max)


@given(situations(), LOADS, LOADS, st.floats(1000, 3000))
def test_more_load_never_means_fewer_replicas(
    situation: tuple[ReplicaRange, int, int, ScalingHistory | None], one: float, other: float, now: float
) -> None:
    replicas, current, ready, history = situation
    less, more = (
        decide(replicas, current, load, now=now, ready=ready, history=history).replicas for load in sorted((one, other))
    )
    assert less <= more


@given(ranges(), st.floats(0.1, 30))
def test_a_constant_load_gets_the_replicas_that_its_target_demands(replicas: ReplicaRange, ongoing: float) -> None:
    numbers = simulated(replicas, max(1, replicas.min), [ongoing] * 400)
    wanted = math.ceil(ongoing / replicas.target_ongoing_requests - 1e-6)
    assert numbers[-1] == max(1, replicas.min, min(wanted, replicas.max))
    changes = sum(before != after for before, after in itertools.pairwise(numbers))
    assert changes <= 1


@given(ranges(), st.lists(LOADS, min_size=1, max_size=59))
def test_replicas_are_not_removed_within_the_delay(replicas: ReplicaRange, loads: list[float]) -> None:
    numbers = simulated(replicas, replicas.max, loads)
    assert set(numbers) == {replicas.max}


@given(st.lists(st.sampled_from([0.0, 4.0]), min_size=1, max_size=600))
def test_a_load_that_comes_and_goes_changes_nothing_but_after_a_quiet_minute(loads: list[float]) -> None:
    replicas = ReplicaRange(min=1, max=2, target_ongoing_requests=2)
    numbers = simulated(replicas, 2, loads)
    for second, (before, after) in enumerate(itertools.pairwise(numbers), start=1):
        if after < before:
            assert not any(loads[second - 60 : second + 1]), "it was needed within the delay"


def test_the_highest_demand_of_the_delay_decides_how_many_remain() -> None:
    replicas = ReplicaRange(min=1, max=8, target_ongoing_requests=1)
    loads = [1.0] * 30 + [5.0] + [1.0] * 30
    assert simulated(replicas, 8, loads)[-1] == 5


def test_a_short_peak_adds_nothing_within_the_upscale_delay() -> None:
    replicas = ReplicaRange(min=1, max=4, target_ongoing_requests=1)
    assert set(simulated(replicas, 1, [4.0, 4.0, 4.0, 1.0] * 5)) == {1}
    assert simulated(replicas, 1, [4.0] * 6) == [1, 1, 1, 1, 1, 4]
    assert simulated(replicas, 1, [4.0, 3.0, 4.0, 4.0, 4.0, 4.0])[-1] == 3, "the least that was needed all the time"


def test_the_last_replica_goes_after_its_own_delay() -> None:
    replicas = ReplicaRange(min=0, max=3, target_ongoing_requests=1)
    numbers = simulated(replicas, 3, [0.0] * 400)
    assert (numbers.index(1), numbers.index(0)) == (60, 361)
    assert 2 not in numbers


def test_a_request_starts_the_first_replica_without_a_delay() -> None:
    replicas = ReplicaRange(min=0, max=3, target_ongoing_requests=1)
    assert decide(replicas, 0, 0.001, ready=0).replicas == 1
    assert decide(replicas, 0, 50, ready=0).replicas == 1, "the others are added when it answers"
    assert decide(replicas, 0, 0, ready=0).replicas == 0


def test_while_no_replica_answers_only_the_fewest_are_demanded() -> None:
    """Replicas that were preempted together come back as one workload: the fewest ones are admitted first."""
    replicas = ReplicaRange(min=1, max=4, target_ongoing_requests=1)
    assert simulated(replicas, 1, [9.0] * 10)[-1] == 4
    waits = decide(replicas, 4, 9, ready=0)
    assert waits.replicas == 4
    later = decide(replicas, 4, 9, ready=0, history=waits.history, now=1060)
    assert later.replicas == 1


def test_without_delays_every_demand_is_set() -> None:
    replicas = ReplicaRange(min=0, max=4, target_ongoing_requests=2)
    assert simulated(replicas, 1, [8, 2, 0, 0, 3], AT_ONCE) == [4, 1, 0, 0, 1]
