"""The work queue: deduplication, rate limit, backoff after failures, and no lost changes."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from windlass_operators.kinds import POOL, PROJECT
from windlass_operators.work_queue import Key, WorkQueue

ONE, OTHER = Key(PROJECT, "one"), Key(POOL, "other")


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def running(
    work: Callable[[WorkQueue, Key], float | None],
    *,
    workers: int = 2,
    failed: Callable[[Key, Exception], float | None] = lambda _key, _error: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[WorkQueue]:
    """Run a queue; afterwards no thread of it is left."""
    queue = WorkQueue(lambda key: work(queue, key), failed, workers, lambda: None, clock)
    stopping = threading.Event()
    thread = threading.Thread(target=queue.run, args=(stopping,))
    thread.start()
    try:
        yield queue
    finally:
        stopping.set()
        thread.join(5)
        assert not thread.is_alive()
        assert not [one for one in threading.enumerate() if one.name.startswith("reconcile ")]


def becomes(true: Callable[[], bool]) -> None:
    """Wait for a condition, and a moment longer for unexpected effects."""
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)
    time.sleep(0.1)


def test_repeated_adds_of_a_key_are_processed_once() -> None:
    turns, clock = list[Key](), Clock()
    with running(lambda _, key: turns.append(key), clock=clock) as queue:
        for _ in range(50):
            queue.add(ONE, 0.05)
        queue.add(OTHER)
        becomes(lambda: turns == [OTHER])
        clock.now += 1
        queue.add(ONE)  # wakes the workers: the clock of this test does not
        becomes(lambda: len(turns) >= 2)
    assert turns == [OTHER, ONE]


def test_key_added_while_processed_is_processed_again_afterwards() -> None:
    lock = threading.Lock()
    busy = most = turns = 0

    def work(queue: WorkQueue, key: Key) -> None:
        nonlocal busy, most, turns
        with lock:
            busy, turns = busy + 1, turns + 1
            most = max(most, busy)
            again = turns < 4
        if again:
            queue.add(key)
        time.sleep(0.02)
        with lock:
            busy -= 1

    with running(work, workers=4) as queue:
        queue.add(ONE)
        becomes(lambda: turns >= 4)
    assert (turns, most) == (4, 1)


def test_keys_are_processed_in_parallel_up_to_the_number_of_workers() -> None:
    lock = threading.Lock()
    busy = most = done = 0

    def work(_queue: WorkQueue, _key: Key) -> None:
        nonlocal busy, most, done
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.02)
        with lock:
            busy, done = busy - 1, done + 1

    with running(work, workers=3) as queue:
        for number in range(30):
            queue.add(Key(PROJECT, f"p{number}"))
        becomes(lambda: done == 30)
    assert most == 3


def test_failed_key_is_retried_with_backoff_and_delays_no_other() -> None:
    turns: list[Key] = []

    def work(_: WorkQueue, key: Key) -> None:
        turns.append(key)
        if key == ONE and turns.count(ONE) == 1:
            raise RuntimeError("cannot")

    with running(work, workers=1) as queue:
        queue.add(ONE)
        queue.add(OTHER, 0.05)
        becomes(lambda: len(turns) >= 3)
    assert turns == [ONE, OTHER, ONE]


def test_backoff_of_a_key_grows_until_it_succeeds() -> None:
    moments: list[float] = []

    def work(_queue: WorkQueue, _key: Key) -> None:
        moments.append(time.monotonic())
        if len(moments) in {1, 2, 4}:
            raise RuntimeError("cannot")

    with running(work) as queue:
        queue.add(ONE)
        becomes(lambda: len(moments) >= 3)
        queue.add(ONE)
        becomes(lambda: len(moments) >= 5)
    first, second, _, third = (after - before for before, after in itertools.pairwise(moments))
    assert 0.25 <= first <= 0.8
    assert 0.5 <= second <= 1.4
    assert 0.25 <= third <= 0.8, "a success resets it"


def test_retry_after_delays_the_key() -> None:
    moments: list[float] = []

    def work(_queue: WorkQueue, _key: Key) -> None:
        moments.append(time.monotonic())
        if len(moments) == 1:
            raise RuntimeError("busy")

    with running(work, failed=lambda _key, _error: 0.8) as queue:
        queue.add(ONE)
        becomes(lambda: len(moments) >= 2)
    assert moments[1] - moments[0] >= 0.8


def test_key_is_requeued_after_the_returned_delay() -> None:
    turns = 0

    def work(_queue: WorkQueue, _key: Key) -> float | None:
        nonlocal turns
        turns += 1
        return 0.01 if turns < 3 else None

    with running(work) as queue:
        queue.add(ONE)
        becomes(lambda: turns >= 3)
    assert turns == 3


def test_first_change_is_processed_at_once_and_a_burst_once_more() -> None:
    turns, clock = list[float](), Clock()
    with running(lambda _queue, _key: turns.append(clock.now), clock=clock) as queue:
        queue.enqueue(ONE, 0.2)
        becomes(lambda: len(turns) == 1)
        for step in range(5):
            clock.now = 100.0 + step / 100
            queue.enqueue(ONE, 0.2)
        time.sleep(0.05)
        assert turns == [100.0]
        clock.now = 100.2
        queue.add(OTHER)
        becomes(lambda: len(turns) == 3)
        clock.now = 200.0
        queue.enqueue(ONE, 0.2)
        becomes(lambda: len(turns) == 4)
    assert turns == [100.0, 100.2, 100.2, 200.0]


def test_an_urgent_change_does_not_wait_for_the_interval_of_a_less_urgent_one() -> None:
    turns, clock = list[float](), Clock()
    with running(lambda _queue, _key: turns.append(clock.now), clock=clock) as queue:
        queue.enqueue(ONE, 2.0)
        becomes(lambda: len(turns) == 1)
        clock.now = 100.5
        queue.enqueue(ONE, 2.0)
        time.sleep(0.05)
        assert turns == [100.0]
        queue.enqueue(ONE, 0.2)
        becomes(lambda: len(turns) == 2)
        assert turns == [100.0, 100.5]
        clock.now = 103.0
        queue.add(OTHER)
        becomes(lambda: len(turns) == 3)
    assert turns == [100.0, 100.5, 103.0], "the urgent reconciliation made the other one unnecessary"


def test_a_pause_delays_all_keys() -> None:
    moments: list[float] = []
    began = time.monotonic()
    with running(lambda _queue, _key: moments.append(time.monotonic())) as queue:
        queue.pause(0.3)
        queue.add(ONE)
        queue.add(OTHER)
        becomes(lambda: len(moments) == 2)
    assert min(moments) - began >= 0.3


def test_stopping_waits_for_what_is_processed_and_starts_nothing_else() -> None:
    turns, entered = list[Key](), threading.Event()

    def work(_: WorkQueue, key: Key) -> None:
        entered.set()
        time.sleep(0.2)
        turns.append(key)

    with running(work, workers=1) as queue:
        queue.add(ONE)
        entered.wait(5)
        queue.add(OTHER)
    assert turns == [ONE]


def test_a_worker_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlass_operators.work_queue._HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def leave(_: Key) -> float | None:
        raise SystemExit

    queue = WorkQueue(leave, lambda _key, _error: None, 2, lambda: None)
    queue.add(ONE)
    with pytest.raises(RuntimeError, match="a worker of the work queue ended"):
        queue.run(threading.Event())
