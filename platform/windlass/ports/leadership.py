"""Leader election: one of several replicas writes."""

from typing import Protocol


class NotLeaderError(Exception):
    """This replica is not the leader: nothing may be written."""


class LeaderElector(Protocol):
    """A lease that at most one replica holds. A holder that does not renew loses it to another candidate."""

    @property
    def is_leader(self) -> bool:
        """Whether this replica may write."""
        ...

    def ensure_leader(self) -> None:
        """Check leadership; the guard of every write.

        Raises:
            NotLeaderError: the lease is not held, or was not renewed in time.
        """
        ...

    def try_acquire_or_renew(self) -> bool:
        """Acquire or renew the lease; False if another replica holds it, or may hold it."""
        ...

    def release(self) -> None:
        """Release the lease, so that another replica can acquire it at once."""
        ...
