"""Pure functions of the Serve controller: compare desired and observed applications, plan changes, build the status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.kit.backoff import Backoff
from windlass.serving.failures import NO_MESSAGE, AppFailure, load_failure, reason

_ERROR = "Error:"
UNHEALTHY_GRACE_SECONDS = 60.0
"""How long a deployed application may have no running replica before it is stopped for a backoff."""
_BACKOFF = Backoff(first=5.0, maximum=300.0, jitter=0.0)


class ServeState(StrEnum):
    """The application states of Ray Serve that the controller distinguishes."""

    STARTING = "starting"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"
    FAILED = "failed"
    DELETING = "deleting"


@dataclass(frozen=True)
class ObservedApp:
    """An application as Ray Serve reports it.

    ``running`` is the number of running replicas, ``replicas`` that of all which are not being stopped.
    """

    state: ServeState
    message: str = ""
    running: int = 0
    replicas: int = 0


@dataclass(frozen=True)
class DeployFailure:
    """An application that is not deployed, and the reason.

    It applies until the desired application changes, or until the time ``until``, when the deployment is retried.
    """

    app: ServedApp
    reason: str
    until: float | None = None

    def still_applies(self, desired: ServedApp | None, now: float) -> bool:
        """Return whether the application must still not be deployed."""
        return desired == self.app and (self.until is None or now < self.until)


@dataclass(frozen=True)
class CrashBackoff:
    """Consecutive transient failures of an application, and the end of its last backoff."""

    app: ServedApp
    failures: int
    until: float


def next_backoff(app: ServedApp, previous: CrashBackoff | None, now: float) -> CrashBackoff:
    """Count a failure and double the backoff; a long time without failures resets both."""
    reset = previous is None or previous.app != app or now > previous.until + _BACKOFF.maximum
    failures = 1 if previous is None or reset else previous.failures + 1
    return CrashBackoff(app, failures, now + _BACKOFF.delay(failures))


@dataclass(frozen=True)
class ReconcilePlan:
    """Applications to deploy and keys of applications to delete."""

    deploy: tuple[ServedApp, ...] = ()
    delete: tuple[str, ...] = ()


def plan(
    desired_apps: Sequence[ServedApp],
    deployed: Mapping[str, ServedApp],
    observed: Mapping[str, ObservedApp],
    failures: Mapping[str, DeployFailure],
) -> ReconcilePlan:
    """Return the changes that bring the observed applications to the desired ones.

    Args:
        desired_apps: applications to serve.
        deployed: applications that this controller has deployed, by key.
        observed: applications that Serve reports, by key.
        failures: applications that must not be deployed, by key.
    """
    desired_keys = {app.key for app in desired_apps}
    to_deploy = {app.key: app for app in desired_apps if app.key not in failures}

    def must_stop(key: str) -> bool:
        # A running version stays when its successor cannot be deployed.
        return key in failures and deployed.get(key) == failures[key].app

    terminating = {key for key, current in observed.items() if current.state is ServeState.DELETING}
    return ReconcilePlan(
        # An application that is being deleted is deployed after the deletion.
        tuple(
            app
            for key, app in to_deploy.items()
            if key not in terminating and (key not in observed or deployed.get(key) != app)
        ),
        tuple(key for key in observed if key not in terminating and (key not in desired_keys or must_stop(key))),
    )


def detect_failure(current: ObservedApp, seconds_without_replica: float) -> AppFailure | None:
    """Return why an application must be stopped, or None.

    Serve stops retrying when the first start fails. A replica that once ran is restarted without backoff, even when its
    files are missing, and under memory pressure these restarts take memory that other applications need to recover.
    """
    if current.running or current.state not in {ServeState.STARTING, ServeState.UNHEALTHY, ServeState.FAILED}:
        return None
    if failure := load_failure(current.message):
        return failure
    text = reason(current.message)
    if current.state is ServeState.FAILED:
        return AppFailure(text or NO_MESSAGE, permanent=False)
    if current.state is ServeState.UNHEALTHY and seconds_without_replica > UNHEALTHY_GRACE_SECONDS:
        return AppFailure(text or "its replicas do not start", permanent=False)
    return None


def serving_status(
    desired_apps: Sequence[ServedApp],
    observed: Mapping[str, ObservedApp],
    failures: Mapping[str, DeployFailure],
) -> ServingStatus:
    """Return the status of all desired applications, and of removed ones until they are deleted."""
    desired_keys = {app.key for app in desired_apps}
    terminating = [
        terminating_status(key, current.running) for key, current in observed.items() if key not in desired_keys
    ]
    named = [_app_status(app, observed.get(app.key), failures.get(app.key)) for app in desired_apps]
    return ServingStatus(apps=(*named, *terminating))


def terminating_status(key: str, running: int) -> AppStatus:
    """Return the status of an application that is no longer desired and not yet deleted."""
    return AppStatus(key=key, state=AppState.TERMINATING, message="stopping", ready_replicas=running)


def _app_status(app: ServedApp, current: ObservedApp | None, failure: DeployFailure | None) -> AppStatus:
    running = current.running if current is not None else 0
    desired = max(running, current.replicas) if current is not None else 0
    if failure is not None:
        return AppStatus(
            key=app.key,
            state=AppState.FAILED,
            message=failure.reason,
            transient=failure.until is not None,
            ready_replicas=running,
            desired_replicas=desired,
        )
    if current is None or current.state is ServeState.DELETING:
        return AppStatus(key=app.key, state=AppState.DEPLOYING, message="waiting to be deployed")
    message = reason(current.message)
    if current.state is ServeState.FAILED:
        state, message = AppState.FAILED, message or NO_MESSAGE
    elif current.state is ServeState.RUNNING or (running and current.state is ServeState.UNHEALTHY):
        state = AppState.READY
    else:
        # A message without an error is a warning of Serve that loading takes long.
        state, message = AppState.DEPLOYING, message if _ERROR in current.message else "loading the model"
    return AppStatus(key=app.key, state=state, message=message, ready_replicas=running, desired_replicas=desired)
