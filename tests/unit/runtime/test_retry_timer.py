"""How long transfers are repeated while the object store is away."""

import math

import pytest

from windlass.domain.errors import UnavailableError
from windlass.runtime import transfers
from windlass.runtime.transfers import RETRY_SECONDS, RetryTimer

AWAY = UnavailableError("the object store is unreachable")


class FakeTime:
    """A clock that sleeping advances."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(transfers, "time", fake)
    return fake


def new_timer(clock: FakeTime) -> RetryTimer:
    return RetryTimer(RETRY_SECONDS, _progress_at=clock.now)


def fail_until(recovery: float, timer: RetryTimer, clock: FakeTime) -> None:
    while clock.now < recovery:
        timer.wait(AWAY)


def test_an_outage_of_two_minutes_fails_no_transfer(clock: FakeTime) -> None:
    recovery = clock.now + 120
    fail_until(recovery, new_timer(clock), clock)
    assert clock.now < recovery + 10, "the store is tried again soon after it is back"
    assert len(clock.sleeps) < 40, "it is not flooded with requests"


def test_only_the_time_without_progress_counts(clock: FakeTime) -> None:
    timer = new_timer(clock)
    for _ in range(3):
        fail_until(clock.now + 200, timer, clock)
        timer.progress()
    progress = clock.now
    with pytest.raises(UnavailableError):
        fail_until(math.inf, timer, clock)
    assert clock.now <= progress + RETRY_SECONDS
