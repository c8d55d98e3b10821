"""The clock of a training process: every second is in exactly one phase."""

import pytest

from windlass.domain.reports import PhaseSeconds
from windlass_pipelines.train.phases import PhaseClock


class Time:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_every_second_is_in_one_phase() -> None:
    time = Time()
    clock = PhaseClock(time)
    clock.add_start(5)
    time.now += 10
    clock.enter("training")
    time.now += 3
    with clock.phase("data_wait"):
        time.now += 4
    time.now += 1
    with clock.phase("evaluation"):
        time.now += 2
        with clock.phase("data_wait"):
            time.now += 1
    time.now += 6
    assert clock.seconds() == PhaseSeconds(training=10, data_wait=5, loading=15, evaluation=2)
    time.now += 1
    assert clock.seconds().training == 11


def test_a_phase_that_fails_ends() -> None:
    time = Time()
    clock = PhaseClock(time)

    def fail() -> None:
        time.now += 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), clock.phase("evaluation"):
        fail()
    time.now += 2
    assert clock.seconds() == PhaseSeconds(loading=2, evaluation=1)


def test_a_report_is_due_some_seconds_after_the_last_one() -> None:
    time = Time()
    clock = PhaseClock(time)
    time.now += 9
    assert not clock.is_due()
    time.now += 1
    assert clock.is_due()
    assert clock.report().seconds.loading == 10
    assert not clock.is_due()
