"""The requests to an endpoint over time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from windlass.domain.endpoint_traffic import (
    TrafficCounts,
    TrafficPoint,
    TrafficSeries,
    floor_time,
    traffic_steps,
)
from windlass.domain.usage import Interval
from windlass.services.base import ProjectService

_DEFAULT_TIME = timedelta(days=1)


@dataclass(frozen=True)
class EndpointTraffic(ProjectService):
    """The requests to the endpoints of one project, as the replicas of the API have counted them."""

    def series(
        self, name: str, since: datetime | None = None, until: datetime | None = None, step: timedelta | None = None
    ) -> TrafficSeries:
        """Return the requests to an endpoint, by default of the last day.

        An earlier endpoint of the same name is not part of it.

        Raises:
            NotFoundError: there is no such endpoint.
            InvalidError: as ``traffic_steps``.
        """
        end = until or self.deps.clock.now() + timedelta.resolution  # with the step that has just begun
        with self.deps.database.read() as uow:
            created_at = uow.project(self.project).endpoints.get({"name": name}).created_at
            wanted, step = traffic_steps(Interval(since or end - _DEFAULT_TIME, end), step)
            start = max(wanted.start, floor_time(created_at, step))
            found = uow.endpoint_traffic.points(self.project, name, Interval(start, wanted.end), step)
        counts = {point.at: point.counts for point in found}
        times = [wanted.start + index * step for index in range((wanted.end - wanted.start) // step)]
        points = tuple(TrafficPoint(at=time, counts=counts.get(time, TrafficCounts())) for time in times)
        return TrafficSeries(interval=wanted, step=step, points=points)
