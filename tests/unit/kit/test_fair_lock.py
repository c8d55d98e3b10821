"""A thread that loops over a lock keeps no other thread waiting."""

import threading

import pytest

from windlass.kit.fair_lock import FairLock, FairLocks


def test_threads_acquire_the_lock_in_the_order_of_their_requests() -> None:
    lock, order = FairLock(), list[int]()
    threads = []

    def enter(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        for number in range(5):
            thread = threading.Thread(target=enter, args=(number,))
            thread.start()
            threads.append(thread)
            while len(lock._waiting) <= number:
                pass
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_the_lock_is_free_after_an_exception() -> None:
    lock = FairLock()
    with pytest.raises(ValueError, match="inside"), lock:
        raise ValueError("inside")
    with lock:
        pass


def test_locks_of_other_names_are_free_and_unused_ones_are_forgotten() -> None:
    locks, order = FairLocks(), list[str]()

    def enter() -> None:
        with locks.held("one"):
            order.append("second")

    with locks.held("one"):
        with locks.held("two"):
            order.append("other")
        thread = threading.Thread(target=enter)
        thread.start()
        while locks._locks["one"][1] < 2:
            pass
        order.append("first")
    thread.join()
    assert order == ["other", "first", "second"]
    assert locks._locks == {}
