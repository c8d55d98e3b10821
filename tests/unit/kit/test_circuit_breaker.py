"""Detection of a server that fails, as opposed to single requests."""

from windlass.kit.backoff import Backoff
from windlass.kit.circuit_breaker import CircuitBreaker

BACKOFF = Backoff(first=0.5, maximum=10.0)


class Clock:
    now = 1.0

    def __call__(self) -> float:
        return self.now


def test_one_failing_request_does_not_pause_others() -> None:
    breaker = CircuitBreaker(BACKOFF, Clock())
    assert {breaker.record_failure("one") for _ in range(50)} == {0.0}
    assert breaker.allows_request()


def test_pauses_double_until_a_response_succeeds() -> None:
    clock = Clock()
    breaker = CircuitBreaker(BACKOFF, clock)
    pauses = []
    for key in range(12):
        pauses.append(breaker.record_failure(key))
        clock.now += pauses[-1]
    assert pauses[:2] == [0.0, 0.0]
    assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses[2:7]))
    assert all(5.0 <= pause <= 10.0 for pause in pauses[8:])
    clock.now += 100
    breaker.record_success()
    assert breaker.record_failure(0) == 0.0


def test_failures_in_flight_do_not_extend_a_pause() -> None:
    clock = Clock()
    breaker = CircuitBreaker(BACKOFF, clock)
    for key in range(3):
        longest = breaker.record_failure(key)
    assert [breaker.record_failure(key) for key in range(3, 50)] == [0.0] * 47
    clock.now += longest
    assert breaker.record_failure(0) <= 1.0


def test_retry_after_pauses_all() -> None:
    assert CircuitBreaker(BACKOFF, Clock()).record_failure("one", 7.0) == 7.0


def test_after_a_pause_one_request_is_allowed_and_its_success_allows_all() -> None:
    clock = Clock()
    breaker = CircuitBreaker(BACKOFF, clock)
    pause = max(breaker.record_failure(key) for key in range(3))
    assert not breaker.allows_request()
    clock.now += pause
    assert [breaker.allows_request() for _ in range(3)] == [True, False, False]
    breaker.record_failure(0)
    clock.now += 1.0
    assert [breaker.allows_request() for _ in range(3)] == [True, False, False], "the longest second pause is over"
    breaker.record_success()
    assert [breaker.allows_request() for _ in range(3)] == [True] * 3
