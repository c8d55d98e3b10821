"""Convergence with side effects: reads the wish, looks at Serve, acts, and says in the status file what it sees."""

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

from windlass.domain.endpoints import ServedApp, ServingStatus
from windlass.domain.errors import WindlassError
from windlass.serving.files import STATUS_NAME, WISH_NAME, HostStatus, Wish, digest
from windlass_pipelines.serve.artifact import check_manifest
from windlass_pipelines.serve.convergence import (
    Observed,
    Refusal,
    ServeState,
    Trouble,
    failure,
    plan,
    report,
    trouble,
)
from windlass_pipelines.serve.deployments import target
from windlass_pipelines.serve.front import HOSTS, routes, write_atomically

_STATES = {
    ApplicationStatus.NOT_STARTED: ServeState.STARTING,
    ApplicationStatus.DEPLOYING: ServeState.STARTING,
    ApplicationStatus.RUNNING: ServeState.RUNNING,
    ApplicationStatus.DEPLOY_FAILED: ServeState.FAILED,
    ApplicationStatus.UNHEALTHY: ServeState.UNHEALTHY,
    ApplicationStatus.DELETING: ServeState.DELETING,
}

_log = logging.getLogger(__name__)


class Host:
    """One pass of ``step`` reads the wish, compares it with Serve, acts, and writes the status if it changed."""

    def __init__(self, folder: Path, base_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the folder of wish and status and the address of Serve's HTTP."""
        self._folder, self._base_url, self._clock = folder, base_url, clock
        self._wish = Wish()
        self._wish_bytes = b""
        self._wish_digest = ""
        self._deployed: dict[str, ServedApp] = {}
        self._refused: dict[str, Refusal] = {}
        self._troubles: dict[str, Trouble] = {}
        self._down_since: dict[str, float] = {}
        self._routed: set[str] = set()
        self._status: HostStatus | None = None

    def wish_changed(self) -> bool:
        """Tell whether the file on disk differs from the wish of the last step."""
        return _read(self._folder / WISH_NAME) != self._wish_bytes

    def step(self) -> bool:
        """Converge once; tell whether something is still under way."""
        self._read_wish()
        self._refuse_bad_artifacts()
        observed = self._observe()
        self._stop_what_fails(observed)
        todo = plan(self._wish.apps, self._deployed, observed, self._refused)
        for key in todo.delete:
            self._deployed.pop(key, None)
            serve.delete(key, _blocking=False)
        for app in todo.deploy:
            self._deploy(app)
        if todo.delete or todo.deploy:
            observed = self._observe()
        self._write_status(report(self._base_url, self._wish.apps, observed, self._refused))
        return bool(todo.delete or todo.deploy) or any(
            seen.state is not ServeState.RUNNING and seen.state is not ServeState.FAILED for seen in observed.values()
        )

    def _read_wish(self) -> None:
        content = _read(self._folder / WISH_NAME)
        if content == self._wish_bytes:
            return
        self._wish_bytes = content
        try:
            self._wish = Wish.model_validate_json(content or b"{}")
        except ValidationError:
            _log.exception("the wish cannot be read; the last one stays")
        else:
            self._wish_digest = digest(content)

    def _refuse_bad_artifacts(self) -> None:
        """Look at manifests before a replica is started for them."""
        wished, now = {app.key: app for app in self._wish.apps}, self._clock()
        self._refused = {key: old for key, old in self._refused.items() if old.holds(wished.get(key), now)}
        self._troubles = {key: old for key, old in self._troubles.items() if wished.get(key) == old.app}
        for key, app in wished.items():
            if key in self._refused or self._deployed.get(key) == app:
                continue
            try:
                check_manifest(app.artifact, app.digest)
            except WindlassError as error:
                self._refused[key] = Refusal(app, error.message)

    def _stop_what_fails(self, observed: dict[str, Observed]) -> None:
        """Give up what cannot be served; pause what may be served later, as when there is no memory at the moment."""
        now = self._clock()
        down = {key for key, seen in observed.items() if not seen.running and seen.state is not ServeState.RUNNING}
        self._down_since = {key: self._down_since.get(key, now) for key in down}
        for key in down & self._deployed.keys() - self._refused.keys():
            app, found = self._deployed[key], failure(observed[key], now - self._down_since[key])
            if found is None:
                continue
            if found.lasting:
                self._refused[key] = Refusal(app, found.reason)
                continue
            self._troubles[key] = again = trouble(app, self._troubles.get(key), now)
            said = f"{found.reason}; it is started again after a pause of {again.until - now:.0f} s"
            self._refused[key] = Refusal(app, said, again.until)
            _log.warning("%s is paused: %s", key, said)

    def _deploy(self, app: ServedApp) -> None:
        try:
            serve.run_many([target(app, HOSTS)], wait_for_applications_running=False)
        # What Serve finds wrong with one application's options must not end the host of the others.
        except (RayServeException, TypeError, ValueError) as error:
            _log.exception("deploying %s failed", app.key)
            self._refused[app.key] = Refusal(app, f"Serve refuses it: {error}")
        else:
            self._deployed[app.key] = app

    def _observe(self) -> dict[str, Observed]:
        observed = {key: _observed(found) for key, found in serve.status().applications.items()}
        running = {key for key, seen in observed.items() if seen.state is ServeState.RUNNING}
        self._routed &= running
        if running - self._routed:
            # The controller says that an application runs a moment before the proxy has heard of its route.
            known = routes(self._base_url) or set()
            self._routed |= {key for key in running if f"/{key}" in known}
        return {
            key: replace(seen, state=ServeState.STARTING) if key in running - self._routed else seen
            for key, seen in observed.items()
        }

    def _write_status(self, seen: ServingStatus) -> None:
        path, status = self._folder / STATUS_NAME, HostStatus(wish=self._wish_digest, status=seen)
        if status != self._status or not path.exists():
            write_atomically(path, status.model_dump_json())
            self._status = status
        # The time of the file is the host's sign of life.
        os.utime(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _observed(found: ApplicationStatusOverview) -> Observed:
    """Translate; an application here has one deployment, whose message tells more than the application's."""
    deployments = list(found.deployments.values())
    running = sum(deployment.replica_states.get(ReplicaState.RUNNING, 0) for deployment in deployments)
    message = next((deployment.message for deployment in deployments if deployment.message), found.message)
    return Observed(_STATES[found.status], message, running)
