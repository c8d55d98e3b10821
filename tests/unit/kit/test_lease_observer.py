"""A lease expires when its value has not changed for its duration on the clock of the observer."""

from windlass.kit.lease import LeaseObserver


def test_lease_is_as_old_as_its_last_change() -> None:
    observer = LeaseObserver()
    assert observer.seconds_unchanged("lease", 1, now=100.0) == 0
    assert observer.seconds_unchanged("lease", 1, now=130.0) == 30
    assert observer.seconds_unchanged("lease", 2, now=140.0) == 0
    assert observer.seconds_unchanged("lease", 2, now=145.0) == 5


def test_restarted_observer_waits_for_the_full_duration() -> None:
    LeaseObserver().seconds_unchanged("lease", 1, now=100.0)
    assert LeaseObserver().seconds_unchanged("lease", 1, now=500.0) == 0


def test_forgotten_lease_is_seen_for_the_first_time_again() -> None:
    observer = LeaseObserver()
    observer.seconds_unchanged("lease", 1, now=100.0)
    observer.forget("lease")
    assert observer.seconds_unchanged("lease", 1, now=130.0) == 0


def test_memory_is_bounded_and_the_least_recently_seen_lease_is_dropped() -> None:
    observer = LeaseObserver(capacity=2)
    for second, key in enumerate(("old", "kept", "old", "new")):
        observer.seconds_unchanged(key, 1, now=float(second))
    assert observer.seconds_unchanged("old", 1, now=10.0) == 10
    assert observer.seconds_unchanged("kept", 1, now=10.0) == 0
