"""Starts Ray in a loop of its own, so that runs that wait for it occupy no thread of the outbox dispatcher."""

from collections.abc import Callable, Collection

from windlass.domain.errors import WindlassError
from windlass.ports import RayCluster
from windlass.services.base import ServiceDependencies

_KIND = "run.submit"
_CHECK_SECONDS = 1.0
_VALID_SECONDS = 5.0


class RayStarter:
    """Ensures that Ray runs while runs wait to be submitted.

    Args:
        on_ready: called when Ray is ready and runs wait.
        on_failure: called with the id of each waiting run and the problem when Ray does not start.
    """

    def __init__(
        self,
        deps: ServiceDependencies,
        ray: RayCluster,
        *,
        on_ready: Callable[[], None],
        on_failure: Callable[[str, str], None],
    ) -> None:
        self._deps, self._ray, self._on_ready, self._on_failure = deps, ray, on_ready, on_failure
        self._checked_at: float | None = None
        """When Ray was ready last."""

    def step(self) -> float | None:
        """Start Ray if runs wait for it.

        Raises:
            WindlassError, OSError: Ray does not start; the waiting runs have the reason.
        """
        with self._deps.database.read() as uow:
            runs = uow.outbox.subjects(_KIND)
        if not runs:
            return None
        try:
            self._ray.ensure()
        except (WindlassError, OSError) as error:
            self._checked_at = None
            for run in runs:
                self._on_failure(run, str(error))
            raise
        self._checked_at = self._deps.clock.monotonic()
        self._on_ready()
        return _CHECK_SECONDS

    def paused_kinds(self) -> Collection[str]:
        """Return the kinds of intents that wait for Ray."""
        return () if self._is_ready() else (_KIND,)

    def _is_ready(self) -> bool:
        return self._checked_at is not None and self._deps.clock.monotonic() - self._checked_at < _VALID_SECONDS
