"""Access to a cluster whose custom resources own pools and projects."""

from collections.abc import Sequence
from typing import Protocol

from windlass.domain.cluster_sync import ObservedClusterState, QuotaChange
from windlass.domain.warm_trainers import Placement, WarmTrainer
from windlass.runtime.context import WarmTrainerContext


class ClusterView(Protocol):
    """Watches the pools, projects, quotas and workloads of a cluster."""

    def start(self) -> None:
        """Start list and watch threads."""
        ...

    def stop(self) -> None:
        """Stop the threads."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for changes since the last ``observe``; False on timeout."""
        ...

    def observe(self) -> ObservedClusterState:
        """Return the current state.

        Raises:
            UnavailableError: the caches have not synced yet, or the API server has not answered for too long.
        """
        ...


class ProjectResources(Protocol):
    """Writes project resources by server-side apply; never takes over fields of other managers."""

    def exists(self, uid: str, name: str) -> bool:
        """Return whether the project with this uid (of the control plane) still exists.

        Raises:
            UnavailableError: the API server does not answer.
        """
        ...

    def check(self, change: QuotaChange) -> None:
        """Apply the change as a dry run.

        Raises:
            ConflictError: another manager owns the quota; the message names it.
            InvalidError: the CRD or an admission policy rejects the change.
            NotFoundError: the project no longer exists.
            UnavailableError: the API server does not answer.
        """
        ...

    def apply(self, change: QuotaChange) -> None:
        """Apply the change; idempotent. Raises the errors of ``check``."""
        ...


class WarmTrainers(Protocol):
    """The warm trainers of a control plane in all projects.

    All methods raise UnavailableError when the API server does not answer.
    """

    def list(self) -> Sequence[WarmTrainer]:
        """Return those that exist."""
        ...

    def create(self, place: Placement, name: str, context: WarmTrainerContext) -> None:
        """Create one; no effect if the project is gone or does not accept it."""
        ...

    def delete(self, trainer: WarmTrainer) -> None:
        """Delete one that no run has claimed meanwhile; no effect if it is gone."""
        ...
