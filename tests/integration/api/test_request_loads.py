"""The load that a replica of the API reports, and which reports count."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.databases import new_engine
from tests.fakes.backends import FakeClock

from windlass.db.session import SqlDatabase
from windlass.domain.autoscaling import RequestLoad, ScalingDelays
from windlass.services.autoscaling import Autoscaler
from windlass.services.request_loads import RequestLoads


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(tmp_path: Path, clock: FakeClock) -> Iterator[SqlDatabase]:
    opened = SqlDatabase(new_engine(tmp_path), clock)
    yield opened
    opened.close()


@pytest.fixture
def loads(database: SqlDatabase, clock: FakeClock) -> RequestLoads:
    return RequestLoads(database, "api-1", clock)


def recorded(database: SqlDatabase) -> list[RequestLoad]:
    with database.read() as uow:
        return uow.request_loads.all()


def test_requests_are_averaged_over_the_time_between_reports(
    database: SqlDatabase, clock: FakeClock, loads: RequestLoads
) -> None:
    first = loads.request("a")
    loads.step()
    clock.advance(0.5)
    with loads.request("a"):
        clock.advance(0.25)
    clock.advance(0.25)
    assert loads.step() == 1
    assert recorded(database)[0].ongoing == {"a": 1.25}
    clock.advance(0.5)
    first.close()
    first.close()
    clock.advance(0.5)
    loads.step()
    assert recorded(database)[0].ongoing == {"a": 0.5}


def test_the_first_request_is_reported_at_once_and_as_little_load(database: SqlDatabase, loads: RequestLoads) -> None:
    """Else ten requests of a millisecond would demand the replicas of ten that go on."""
    requests = [loads.request("a") for _ in range(10)]
    loads.step()
    assert 0 < recorded(database)[0].ongoing["a"] < 0.01
    for request in requests:
        request.close()


def test_it_is_called_when_there_is_a_request_again(loads: RequestLoads) -> None:
    starts: list[str] = []
    loads.on_start = lambda: starts.append("start")
    with loads.request("a"), loads.request("b"):
        pass
    with loads.request("a"):
        pass
    assert starts == ["start", "start"]


def test_there_is_one_report_a_second_and_none_without_load(
    database: SqlDatabase, clock: FakeClock, loads: RequestLoads
) -> None:
    assert loads.step() is None
    request = loads.request("a")
    sequences = []
    for _ in range(20):
        loads.step()
        sequences.append(recorded(database)[0].sequence)
        clock.advance(0.125)
    assert sequences[-1] == 3
    request.close()
    clock.advance(1)
    loads.step()
    clock.advance(1)
    loads.step()
    assert recorded(database) == []
    clock.advance(1)
    assert loads.step() is None


def test_a_request_that_moves_counts_for_its_new_application(
    database: SqlDatabase, clock: FakeClock, loads: RequestLoads
) -> None:
    with loads.request("a") as request:
        loads.step()
        clock.advance(0.5)
        request.move("b")
        clock.advance(0.5)
        loads.step()
    assert recorded(database)[0].ongoing == {"a": 0.5, "b": 0.5}
    clock.advance(1)
    loads.step()
    clock.advance(1)
    loads.step()
    assert recorded(database) == []


def test_an_instance_that_stops_reporting_is_dead_after_ten_seconds(clock: FakeClock) -> None:
    autoscaler = Autoscaler(clock, ScalingDelays())
    live, dead = (RequestLoad(instance=name, sequence=1, ongoing={"a": 1.0}) for name in ("live", "dead"))
    for second in range(10):
        assert autoscaler.dead([live.model_copy(update={"sequence": second}), dead]) == set()
        clock.advance(1)
    assert autoscaler.dead([live.model_copy(update={"sequence": 10}), dead]) == {"dead"}
