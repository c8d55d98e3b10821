"""The contract of ``windlass.ports.leadership.LeaderElector``."""

import pytest

from windlass.ports.leadership import LeaderElector, NotLeaderError

SECONDS = 15.0


class ManualClock:
    """A monotonic clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class LeaderElectorContract:
    """Subclasses provide two candidates for one lease of ``SECONDS`` on a common clock."""

    clock: ManualClock
    first: LeaderElector
    second: LeaderElector

    def test_one_candidate_holds_the_lease(self) -> None:
        assert self.first.try_acquire_or_renew()
        assert not self.second.try_acquire_or_renew()
        assert (self.first.is_leader, self.second.is_leader) == (True, False)
        self.first.ensure_leader()
        with pytest.raises(NotLeaderError):
            self.second.ensure_leader()

    def test_a_renewed_lease_does_not_expire(self) -> None:
        self.first.try_acquire_or_renew()
        for _ in range(5):
            assert not self.second.try_acquire_or_renew()
            self.clock.now += SECONDS * 0.6
            assert self.first.try_acquire_or_renew()
        assert self.first.is_leader

    def test_a_leader_stops_to_write_before_another_one_may_begin(self) -> None:
        self.first.try_acquire_or_renew()
        self.second.try_acquire_or_renew()
        self.clock.now += SECONDS * 0.7
        assert not self.first.is_leader
        assert not self.second.try_acquire_or_renew()
        self.clock.now += SECONDS * 0.3
        assert self.second.try_acquire_or_renew()
        assert not self.first.try_acquire_or_renew()
        assert (self.first.is_leader, self.second.is_leader) == (False, True)

    def test_a_candidate_observes_the_lease_for_its_duration_first(self) -> None:
        """It cannot know when the holder renewed: clocks of machines are not compared."""
        self.first.try_acquire_or_renew()
        self.clock.now += 10 * SECONDS
        assert not self.second.try_acquire_or_renew()
        self.clock.now += SECONDS
        assert self.second.try_acquire_or_renew()

    def test_a_late_leader_renews_if_nobody_took_over(self) -> None:
        self.first.try_acquire_or_renew()
        self.clock.now += 2 * SECONDS
        assert not self.first.is_leader
        assert self.first.try_acquire_or_renew()
        assert self.first.is_leader

    def test_a_released_lease_is_free_at_once(self) -> None:
        self.first.try_acquire_or_renew()
        self.first.release()
        assert not self.first.is_leader
        assert self.second.try_acquire_or_renew()
        self.first.release()
        assert self.second.is_leader, "a release of what is not held changes nothing"
