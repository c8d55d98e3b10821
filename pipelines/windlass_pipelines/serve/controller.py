"""The Serve controller: reads the desired state, observes Ray Serve, applies changes and writes the status file."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ReplicaState

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.endpoints import ServedApp, ServingStatus
from windlass.domain.errors import WindlassError
from windlass.kit.files import write_atomic
from windlass.runtime.artifacts import read_manifest
from windlass.serving.state_files import (
    DESIRED_NAME,
    STATUS_NAME,
    DesiredState,
    Heartbeat,
    ServeControllerStatus,
    digest,
)
from windlass.storage.transfers import folder_transfer
from windlass_pipelines.serve.artifact import check_manifest
from windlass_pipelines.serve.deployments import run_target
from windlass_pipelines.serve.http_proxy import HOSTS, routes
from windlass_pipelines.serve.reconcile import (
    CrashBackoff,
    DeployFailure,
    ObservedApp,
    ServeState,
    detect_failure,
    next_backoff,
    plan,
    serving_status,
)

_STATES = {
    ApplicationStatus.NOT_STARTED: ServeState.STARTING,
    ApplicationStatus.DEPLOYING: ServeState.STARTING,
    ApplicationStatus.RUNNING: ServeState.RUNNING,
    ApplicationStatus.DEPLOY_FAILED: ServeState.FAILED,
    ApplicationStatus.UNHEALTHY: ServeState.UNHEALTHY,
    ApplicationStatus.DELETING: ServeState.DELETING,
}

_log = logging.getLogger(__name__)


class ServeController:
    """A reconcile loop over Ray Serve; each ``step`` is one pass."""

    def __init__(self, folder: Path, base_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``folder`` has the desired state and the status file; ``base_url`` is the address of Serve's HTTP proxy."""
        self._folder, self._base_url, self._clock = folder, base_url, clock
        self._heartbeat = Heartbeat(folder)
        self._desired = DesiredState()
        self._desired_bytes = b""
        self._desired_digest = ""
        self._deployed: dict[str, ServedApp] = {}
        self._failures: dict[str, DeployFailure] = {}
        self._backoffs: dict[str, CrashBackoff] = {}
        self._down_since: dict[str, float] = {}
        self._routed: set[str] = set()
        self._status: ServeControllerStatus | None = None

    def desired_changed(self) -> bool:
        """Return whether the desired state file changed since the last step."""
        return _read(self._folder / DESIRED_NAME) != self._desired_bytes

    def step(self) -> bool:
        """Reconcile once; return whether changes are in progress."""
        self._read_desired()
        self._reject_bad_artifacts()
        observed = self._observe()
        self._stop_failing_apps(observed)
        actions = plan(self._desired.apps, self._deployed, observed, self._failures)
        for key in actions.delete:
            self._deployed.pop(key, None)
            serve.delete(key, _blocking=False)
        for app in actions.deploy:
            self._deploy(app)
        if actions.delete or actions.deploy:
            observed = self._observe()
        self._write_status(serving_status(self._desired.apps, observed, self._failures))
        return bool(actions.delete or actions.deploy) or any(
            status.state is not ServeState.RUNNING and status.state is not ServeState.FAILED
            for status in observed.values()
        )

    def _read_desired(self) -> None:
        content = _read(self._folder / DESIRED_NAME)
        if content == self._desired_bytes:
            return
        self._desired_bytes = content
        try:
            self._desired = DesiredState.model_validate_json(content or b"{}")
        except ValidationError:
            _log.exception("the desired state file is invalid; the previous desired state is kept")
        else:
            self._desired_digest = digest(content)

    def _reject_bad_artifacts(self) -> None:
        """Check the manifests of new applications before replicas are started."""
        desired, now = {app.key: app for app in self._desired.apps}, self._clock()
        self._failures = {
            key: previous for key, previous in self._failures.items() if previous.still_applies(desired.get(key), now)
        }
        self._backoffs = {key: previous for key, previous in self._backoffs.items() if desired.get(key) == previous.app}
        for key, app in desired.items():
            if key in self._failures or self._deployed.get(key) == app:
                continue
            try:
                check_manifest(self._fetch_manifest(app), app.digest)
            except WindlassError as error:
                self._failures[key] = DeployFailure(app, error.message)

    def _fetch_manifest(self, app: ServedApp) -> Manifest:
        scratch = self._folder / MANIFEST_NAME
        return read_manifest(folder_transfer().fetch_file(f"{app.artifact_uri}/{MANIFEST_NAME}", scratch).parent)

    def _stop_failing_apps(self, observed: dict[str, ObservedApp]) -> None:
        """Stop permanently failing applications; restart others, for example after a lack of memory, with a backoff."""
        now = self._clock()
        down = {
            key for key, status in observed.items() if not status.running and status.state is not ServeState.RUNNING
        }
        self._down_since = {key: self._down_since.get(key, now) for key in down}
        for key in down & self._deployed.keys() - self._failures.keys():
            app, failure = self._deployed[key], detect_failure(observed[key], now - self._down_since[key])
            if failure is None:
                continue
            if failure.permanent:
                self._failures[key] = DeployFailure(app, failure.reason)
                continue
            self._backoffs[key] = backoff = next_backoff(app, self._backoffs.get(key), now)
            message = f"{failure.reason}; restarting after a backoff of {backoff.until - now:.0f} s"
            self._failures[key] = DeployFailure(app, message, backoff.until)
            _log.warning("stopping %s: %s", key, message)

    def _deploy(self, app: ServedApp) -> None:
        try:
            serve.run_many([run_target(app, HOSTS)], wait_for_applications_running=False)
        # Invalid options of one application must not stop the controller.
        except (RayServeException, TypeError, ValueError) as error:
            _log.exception("deploying %s failed", app.key)
            self._failures[app.key] = DeployFailure(app, f"rejected by Ray Serve: {error}")
        else:
            self._deployed[app.key] = app

    def _observe(self) -> dict[str, ObservedApp]:
        observed = {key: _observed(failure) for key, failure in serve.status().applications.items()}
        running = {key for key, status in observed.items() if status.state is ServeState.RUNNING}
        self._routed &= running
        if running - self._routed:
            # Serve reports an application as running shortly before its proxy has the route.
            registered = routes(self._base_url) or set()
            self._routed |= {key for key in running if f"/{key}" in registered}
        return {
            key: replace(status, state=ServeState.STARTING) if key in running - self._routed else status
            for key, status in observed.items()
        }

    def _write_status(self, serving: ServingStatus) -> None:
        self._heartbeat.beat()
        path = self._folder / STATUS_NAME
        status = ServeControllerStatus(
            controller=os.getpid(), desired_digest=self._desired_digest, base_url=self._base_url, status=serving
        )
        if status != self._status or not path.exists():
            write_atomic(path, status.model_dump_json(), mode=0o600, durable=False)
            self._status = status


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _observed(failure: ApplicationStatusOverview) -> ObservedApp:
    """Convert Serve's overview; the application's only deployment has the more specific message."""
    deployments = list(failure.deployments.values())
    running = sum(deployment.replica_states.get(ReplicaState.RUNNING, 0) for deployment in deployments)
    replicas = sum(
        count
        for deployment in deployments
        for state, count in deployment.replica_states.items()
        if state is not ReplicaState.STOPPING
    )
    message = next((deployment.message for deployment in deployments if deployment.message), failure.message)
    return ObservedApp(_STATES[failure.status], message, running, replicas)
