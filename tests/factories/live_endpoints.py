"""Endpoints that are served, without a model and a rollout."""

from tests.factories.served_apps import make_served_app
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.endpoints import (
    Endpoint,
    EndpointSpec,
    EndpointState,
    LiveTarget,
    TrafficTarget,
)
from windlass.domain.specs import Task


def add_live_endpoint(
    harness: ControlPlaneHarness, project: str, name: str, task: Task, *, app: str | None = None
) -> None:
    """Store a ready endpoint and serve its application, by default with the key ``app-NAME``."""
    live = LiveTarget(app=app or f"app-{name}", model_version="mv_1", model="m", number=1, weight=100)
    spec = EndpointSpec(traffic=(TrafficTarget(model="m", version=1),))
    now = harness.clock.now()
    with harness.database.write() as uow:
        uow.project(project).endpoints.add(
            Endpoint(
                id=harness.deps.new_id("ep"),
                project=project,
                name=name,
                task=task,
                spec=spec,
                state=EndpointState.READY,
                live=(live,),
                created_by="admin",
                created_at=now,
                changed_at=now,
            )
        )
    served = make_served_app(live.app, endpoint=name, task=task)
    harness.serving.apply([*harness.serving.apps.values(), served])
