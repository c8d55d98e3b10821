"""A cluster whose resources own pools and projects."""

from typing import Protocol

from windlass.domain.mirror import Mirror, QuotaChange


class ClusterView(Protocol):
    """Keeps itself informed of a cluster's pools, projects, quotas and workloads."""

    def start(self) -> None:
        """Begin to list and watch, in threads of its own."""
        ...

    def stop(self) -> None:
        """End the threads."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for news since the last ``look``; False when there were none in time."""
        ...

    def look(self) -> Mirror:
        """Return the present state.

        Raises:
            UnavailableError: not everything has been read yet, or the API server has not been heard of for too long.
        """
        ...


class ProjectResources(Protocol):
    """Writes to projects' resources, beside others who write there: what belongs to them is never taken."""

    def exists(self, uid: str, name: str) -> bool:
        """Ask the API server whether the project with this uid (of the control plane) is still there.

        Raises:
            UnavailableError: the API server cannot answer now.
        """
        ...

    def check(self, change: QuotaChange) -> None:
        """Let the API server try the change, and keep nothing of it.

        Raises:
            ConflictError: another manager owns the quota; the message names it.
            InvalidError: a rule of the resource, or of an admission policy, refuses the change.
            NotFoundError: there is no such project any more.
            UnavailableError: the API server cannot answer now.
        """
        ...

    def apply(self, change: QuotaChange) -> None:
        """Make the change; making it again changes nothing. Raises as ``check``."""
        ...
