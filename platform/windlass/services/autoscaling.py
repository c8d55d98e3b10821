"""Sets the number of replicas of applications by their load, where the serving back end does not do it itself."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from windlass.domain.autoscaling import RequestLoad, ScalingDelays, ScalingHistory, scale
from windlass.domain.endpoints import AppStatus, ServedApp
from windlass.kit.lease import LeaseObserver
from windlass.ports import Clock
from windlass.services.request_loads import REPORT_SECONDS

_EXPIRY_SECONDS = 10 * REPORT_SECONDS
"""Time without a report after which an instance is dead: its requests have ended."""


@dataclass
class Autoscaler:
    """Decides for all applications; used by the leader of the workers.

    The numbers that were set last are in the serving back end. For how long the load has demanded other ones is in
    memory: a new leader measures it again, so that it scales down later, never earlier.
    """

    clock: Clock
    delays: ScalingDelays
    _histories: dict[str, ScalingHistory] = field(default_factory=dict, init=False)
    _observer: LeaseObserver = field(default_factory=LeaseObserver, init=False)

    def dead(self, loads: Sequence[RequestLoad]) -> set[str]:
        """Return the instances that do not report any more, by the clock of this process."""
        now = self.clock.monotonic()
        return {
            load.instance
            for load in loads
            if self._observer.seconds_unchanged(load.instance, load.sequence, now) >= _EXPIRY_SECONDS
        }

    def scaled(
        self,
        apps: Mapping[str, ServedApp],
        statuses: Mapping[str, AppStatus],
        loads: Sequence[RequestLoad],
        starting: Collection[str],
    ) -> dict[str, ServedApp]:
        """Return the applications with their numbers of replicas.

        An application that the back end does not know yet starts with the fewest replicas, at least one.

        Args:
            apps: the desired applications by key.
            statuses: the status of the known ones.
            loads: the reports of the instances that are not dead.
            starting: keys of applications that a rollout is about to test; they are not scaled to zero.
        """
        now, histories = self.clock.monotonic(), self._histories
        self._histories = {}
        scaled = {}
        for key, app in apps.items():
            status = statuses.get(key)
            if status is None:
                scaled[key] = app
                continue
            least = 1 if key in starting else app.replicas.min
            decision = scale(
                app.replicas.model_copy(update={"min": max(least, app.replicas.min)}),
                self.delays,
                current=status.desired_replicas,
                ready=status.ready_replicas,
                ongoing=sum(load.ongoing.get(key, 0.0) for load in loads),
                history=histories.get(key),
                now=now,
            )
            if decision.history is not None:
                self._histories[key] = decision.history
            scaled[key] = app.model_copy(update={"desired_replicas": decision.replicas})
        return scaled
