"""The GPU time of model servers: at each time one Workload holds the GPUs of all replicas."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.cluster_sync import ObservedReservation
from windlass.domain.endpoints import app_key, parse_app_key
from windlass.domain.gpu_reservations import GpuReservation, usage_by_month
from windlass.domain.ids import new_id
from windlass.domain.served_gpus import is_model_server_key, model_server_key, without_replaced
from windlass.domain.usage import PoolPrice, Prices, ReservationKind, UsageParts
from windlass.domain.warm_trainers import new_warm_trainer_name

START = datetime(2026, 11, 30, 23, 59, 0, tzinfo=UTC)
KEY = model_server_key("uid")


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def server(gpus: int = 4, end: int | None = None) -> GpuReservation:
    return GpuReservation(
        project="p",
        job=KEY,
        holder="w",
        pool="a100",
        gpus=gpus,
        reserved_at=START,
        released_at=None if end is None else at(end),
    )


def workload(name: str, reserved: int, gpus: int, released: int | None = None, job: str = KEY) -> ObservedReservation:
    end = None if released is None else at(released)
    return ObservedReservation(
        workload=name, job=job, pool="a100", gpus=gpus, reserved_at=at(reserved), released_at=end
    )


def seconds(reservations: list[ObservedReservation], until: int) -> int:
    lengths = ((each.released_at or at(until)) - (each.reserved_at or START) for each in reservations)
    gpus = (each.gpus for each in reservations)
    return sum(max(0, round(length.total_seconds())) * number for length, number in zip(lengths, gpus, strict=True))


def test_what_a_model_server_holds_is_of_the_kind_endpoint() -> None:
    assert server().kind is ReservationKind.ENDPOINT
    assert not any(is_model_server_key(job) for job in (new_id("job"), new_warm_trainer_name()))


def test_all_its_time_is_serving_at_the_price_of_its_pool() -> None:
    prices = Prices([PoolPrice(pool="a100", valid_from=START, micros_per_gpu_hour=3_600_000_000)])
    held = server(4).resized(1, at(30))
    november, december = usage_by_month(held, (), prices, at(100))
    assert (november.month, november.parts) == ("2026-11", UsageParts(serving=(4 * 30 + 30) * 10**6))
    assert (december.month, december.parts) == ("2026-12", UsageParts(serving=40 * 10**6))
    assert (november.cost, december.cost) == (150 * 10**6, 40 * 10**6)


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 5)), max_size=6).map(sorted),
    st.integers(0, 100) | st.none(),
    st.integers(0, 150),
)
def test_the_gpu_time_is_the_sum_over_all_seconds(resizes: list[tuple[int, int]], end: int | None, now: int) -> None:
    held = server(5, end)
    for second, gpus in resizes:
        held = held.resized(gpus, at(second)).resized(gpus, at(second + 1))
    numbers = [(0, 5), *resizes]
    until = now if end is None else end
    expected = sum(next(gpus for since, gpus in reversed(numbers) if since <= second) for second in range(until))
    assert held.gpu_seconds(at(now)) == expected
    assert sum(each.parts.serving for each in usage_by_month(held, (), Prices([]), at(now))) == expected * 10**6


def test_a_number_that_is_observed_late_counts_from_the_last_one() -> None:
    held = server(4).resized(2, at(20)).resized(1, at(10))
    assert held.gpu_seconds(at(30)) == 4 * 20 + 1 * 10


@pytest.mark.parametrize("finished", [None, 20, 23])
def test_a_workload_ends_when_another_one_takes_its_place(finished: int | None) -> None:
    small, large = workload("z", 0, 1, finished), workload("a", 20, 3)
    for observed in ([small, large], [large, small]):
        assert sorted(without_replaced(observed), key=lambda each: each.gpus) == [workload("z", 0, 1, 20), large]


def test_a_workload_that_finished_before_the_next_one_keeps_its_end() -> None:
    observed = [workload("a", 0, 1, 10), workload("b", 20, 1)]
    assert without_replaced(observed) == observed


def test_of_two_workloads_of_one_second_the_larger_one_is_the_later_one() -> None:
    assert without_replaced([workload("z", 5, 1), workload("a", 5, 2)])[0].released_at == at(5)
    assert without_replaced([workload("a", 5, 1), workload("z", 5, 2)])[1].released_at is None


def test_workloads_of_jobs_and_of_other_model_servers_replace_nothing() -> None:
    others = [workload("b", 20, 3, job=model_server_key("other")), workload("c", 20, 3, job=new_id("job"))]
    observed = [workload("a", 0, 1), *others, workload("d", 0, 2, job=others[1].job)]
    assert without_replaced(observed) == observed
    requeued = ObservedReservation(workload="d", job=KEY, released_at=at(3))
    assert without_replaced([workload("a", 0, 1), requeued]) == [workload("a", 0, 1), requeued]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=6, unique_by=lambda each: each[0]),
    st.data(),
)
def test_growing_model_servers_are_counted_once_in_any_order(
    slices: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Each slice is finished some seconds after the next one has its quota, or before it."""
    grown = [(start, number + 1, lag) for number, (start, lag) in enumerate(sorted(slices))]
    ends = [start + lag - 2 for (start, _, _), (_, _, lag) in zip(grown[1:], grown, strict=False)]
    observed = [
        workload(f"w{gpus}", start, gpus, end) for (start, gpus, _), end in zip(grown, [*ends, None], strict=True)
    ]
    expected = 0
    for second in range(40):
        holding = [(start, gpus, end) for (start, gpus, _), end in zip(grown, [*ends, None], strict=True)]
        newest = max((each for each in holding if each[0] <= second), default=None)
        if newest is not None and (newest[2] is None or second < newest[2]):
            expected += newest[1]
    shuffled = data.draw(st.permutations(observed))
    assert seconds(without_replaced(shuffled), 40) == expected
    assert without_replaced(without_replaced(shuffled)) == without_replaced(shuffled)


def test_the_key_of_an_application_has_the_ids_of_endpoint_and_version() -> None:
    endpoint, version = new_id("ep"), new_id("mv")
    assert parse_app_key(app_key(endpoint, version, "settings")) == (endpoint, version)
    assert app_key(endpoint, version, "a") != app_key(endpoint, version, "b")
    for other in ("", "live", app_key(endpoint, version, "x") + "0", app_key(version, endpoint, "x")):
        assert parse_app_key(other) is None
