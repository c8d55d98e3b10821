"""A thread that loops over a lock keeps no other thread waiting."""

import threading

import pytest

from windlass.kit.fair_lock import FairLock


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
