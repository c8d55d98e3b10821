"""Predictions: chooses the application of an endpoint that answers a request."""

import random
from dataclasses import dataclass, field

from windlass.domain.capabilities import Capability, capability_missing
from windlass.domain.endpoints import AppState, Endpoint, EndpointState, LiveTarget, prediction_path
from windlass.domain.errors import EndpointNotReadyError, InvalidError
from windlass.domain.specs import Task
from windlass.services.base import ProjectService


@dataclass(frozen=True)
class PredictionTarget:
    """A live target, the URL of its application, and the headers that the model server requires."""

    target: LiveTarget
    url: str
    """Empty while the application has no replica, and starts one for a request, or is not observed yet."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    on_demand: bool = False
    """Whether its replicas are started by requests, which wait for them."""
    waits: str = ""
    """Why the application has no replica yet, if that is known."""
    not_observed: EndpointNotReadyError | None = field(default=None, repr=False)
    """The error if this replica does not observe soon that the application is ready, as the worker has."""


@dataclass(frozen=True)
class Predictions(ProjectService):
    """Requests to the endpoints of one project."""

    def select_target(self, name: str, task: Task, preferred: str | None = None) -> PredictionTarget:
        """Select a live target at random by weight.

        Args:
            name: the endpoint.
            task: what the caller wants to do.
            preferred: key of an application; it is selected while it is live.

        Raises:
            InvalidError: the endpoint has another task.
            EndpointNotReadyError: no application is ready; the message has the reason.
            CapabilityMissingError: this server serves no endpoints.
        """
        with self.deps.database.read() as uow:
            endpoint = uow.project(self.project).endpoints.get({"name": name})
            project = uow.projects.get({"id": self.project}).name
        if endpoint.task is not task:
            subcommand = "chat" if endpoint.task is Task.CHAT else "predict"
            raise InvalidError(
                f"endpoint {name} of project {project} has task {endpoint.task}, not {task}",
                hint=f"use `windlass {subcommand} {name}`, or POST to {prediction_path(project, endpoint)}",
            )
        if self.deps.serving is None:
            raise capability_missing(Capability.SERVING)
        live = [target for target in endpoint.live if target.weight > 0]
        if not live:
            raise _not_ready(endpoint)
        weights = [target.weight for target in live]
        chosen = random.choices(live, weights=weights)[0]  # noqa: S311 - traffic, not a secret
        target = next((target for target in live if target.app == preferred), chosen)
        app = next((app for app in self.deps.serving.status().apps if app.key == target.app), None)
        on_demand = (endpoint.live_spec or endpoint.spec).replicas.min == 0
        if app is not None and app.state is AppState.READY and app.url:
            return PredictionTarget(target, app.url, app.headers, on_demand)
        if on_demand and (app is None or app.state in {AppState.READY, AppState.DEPLOYING}):
            waits = app.waits.message if app is not None and app.waits is not None else ""
            return PredictionTarget(target, "", {}, on_demand, waits)
        if endpoint.state is EndpointState.READY:
            return PredictionTarget(target, "", not_observed=_not_ready(endpoint))
        raise _not_ready(endpoint)


def _not_ready(endpoint: Endpoint) -> EndpointNotReadyError:
    name = endpoint.name
    # The row may be older than the serving status that led here.
    state = EndpointState.PENDING if endpoint.state is EndpointState.READY else endpoint.state
    reason = f": {endpoint.reason.message}" if endpoint.reason else ""
    hints = {
        EndpointState.STOPPED: f"start it: `windlass endpoint update {name} --start`",
        EndpointState.FAILED: f"see its reason: `windlass endpoint show {name}`; then serve another version: "
        f"`windlass endpoint update {name} MODEL@VERSION`",
        EndpointState.DELETING: "create it again when it is gone",
    }
    return EndpointNotReadyError(
        f"endpoint {name} is {state}{reason}",
        hint=hints.get(state, f"wait for it: `windlass endpoint wait {name}`"),
        context={"state": state.value},
        retryable=state not in hints,
    )
