"""Ray Serve on the local Ray, run by a controller process that outlives this server and keeps its desired state."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.domain.errors import StorageFullError, UnavailableError, WindlassError
from windlass.kit.backoff import Backoff
from windlass.kit.files import log_tail, write_atomic
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.ports import JoinableRay
from windlass.runtime.net import is_listening
from windlass.serving.credentials import proxy_headers
from windlass.serving.state_files import (
    DESIRED_NAME,
    STATUS_NAME,
    DesiredState,
    ServeControllerStatus,
    digest,
    read_heartbeat,
)

_MODULE = "windlass_pipelines.serve"
_ADDRESS_NAME = "ray-address"
_STOP_SECONDS = 45.0
_HUNG_AFTER_SECONDS = 90.0
"""The controller increments its heartbeat every few seconds; starting Serve, its longest step, takes far less."""
_HEALTHY_AFTER_SECONDS = 60.0
"""A controller that ran for this time is restarted without a delay."""
_RESTARTS = Backoff(first=2.0, maximum=60.0)

_log = logging.getLogger(__name__)

_Model = TypeVar("_Model", bound=BaseModel)


class LocalServing:
    """Implements ``ports.ServingBackend``.

    The controller is started in a thread: starting Ray takes up to two minutes.

    Args:
        root: persistent folder: desired state, status, process record, log. One controller process per folder.
        ray: the Ray that runs Serve.
        python: interpreter that has the ``train`` extra.
        clock: monotonic seconds.
    """

    def __init__(self, root: Path, ray: JoinableRay, python: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._ray, self._python, self._clock = root, ray, python, clock
        self._record = root / "process.json"
        self._desired_path = root / DESIRED_NAME
        self._status = root / STATUS_NAME
        self._port = root / "port"
        self._log = root / "controller.log"
        self._starter: threading.Thread | None = None
        self._start_error: UnavailableError | None = None
        self._starts, self._started_at, self._next_start = 0, 0.0, 0.0
        self._heartbeat: tuple[int | None, int, float] = (None, 0, 0.0)

    def apply(self, apps: Sequence[ServedApp]) -> None:
        """Write the desired state; start the controller if none runs and there are applications to serve or to stop.

        It returns before the controller has started; while it cannot be started, this raises the last error.

        Raises:
            UnavailableError: Ray or the controller process does not start.
            StorageFullError: the desired state cannot be written.
        """
        desired = DesiredState(apps=tuple(apps)).model_dump_json().encode()
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if _read(self._desired_path) != desired:
                write_atomic(self._desired_path, desired, mode=0o600)
                self._next_start = 0.0
        except OSError as error:
            raise StorageFullError(f"the desired state of the model servers cannot be written: {error}") from error
        if (apps or self._serve_may_run()) and not self._controller_alive():
            self._start_in_background()
            if self._start_error is not None:
                raise self._start_error

    def status(self) -> ServingStatus:
        """Return the last status of the controller.

        Without a running controller it is still true while Serve listens: the replicas answer without it. Otherwise
        every application is ``deploying``. The next ``apply`` restarts a controller that died.
        """
        content = _read(self._desired_path)
        desired = _parse(content, DesiredState) or DesiredState()
        record = ProcessRecord.load(self._record)
        alive = record is not None and self._controller_alive()
        last = _parse(_read(self._status), ServeControllerStatus)
        is_current = alive and last is not None and record is not None and last.controller == record.pid
        if last is not None and (is_current or _answers(last.base_url)):
            complete = alive and last.desired_digest == digest(content)
            apps = _merged(desired, last, proxy_headers(self._ray.environment()))
            return ServingStatus(apps=apps, complete=complete)
        message = "the model server is starting" if alive or self._is_starting() else self._failure()
        apps = tuple(_deploying(app, message) for app in desired.apps)
        return ServingStatus(apps=apps, complete=not alive and not self._serve_may_run())

    def stop(self) -> None:
        """Stop the controller and Serve; return when all their processes have exited and the port is free.

        The desired state stays on disk; the next ``apply`` serves it again.
        """
        if self._starter is not None:
            self._starter.join()
        self._start_error, self._starts, self._next_start = None, 0, 0.0
        if not self._root.exists():
            return
        with processes.lock_folder(self._root, blocking=True):
            record = ProcessRecord.load(self._record)
            if record is None:
                return
            record = processes.locate(record)
            was_alive = processes.is_alive(record)
            processes.kill(record, grace_seconds=_STOP_SECONDS)
            # A killed controller leaves Serve running in Ray; only a process that joins this Ray can shut it down.
            if not was_alive or self._port.exists():
                self._shut_down_serve()
            self._record.unlink(missing_ok=True)
            self._status.unlink(missing_ok=True)

    def _start_in_background(self) -> None:
        """Start the controller unless that is in progress, or the delay after the last start has not passed."""
        now = self._clock()
        if self._is_starting() or now < self._next_start:
            return
        if now - self._started_at > _HEALTHY_AFTER_SECONDS and self._start_error is None:
            self._starts = 0
        self._starts += 1
        self._started_at, self._next_start = now, now + _RESTARTS.delay(self._starts)
        self._starter = threading.Thread(target=self._start, name="serve-start", daemon=True)
        self._starter.start()

    def _is_starting(self) -> bool:
        return self._starter is not None and self._starter.is_alive()

    def _start(self) -> None:
        """Adopt the running controller, or start one after ending what is left of the last one."""
        try:
            with processes.lock_folder(self._root, blocking=True):
                record = ProcessRecord.load(self._record)
                if record is not None:
                    current = processes.locate(record)
                    if processes.is_alive(current) and not self._is_hung(current):
                        current.save(self._record)
                        return
                    processes.kill(current)
                self._spawn(self._ray.ensure())
        except WindlassError as error:
            self._start_error = UnavailableError(error.message, hint=error.hint)
        except OSError as error:
            self._start_error = UnavailableError(f"the model server cannot be started: {error}")
        else:
            self._start_error = None
            return
        _log.warning("the model server cannot be started", extra={"error": self._start_error.message})

    def _spawn(self, address: str) -> None:
        write_atomic(self._root / _ADDRESS_NAME, address)
        self._log.unlink(missing_ok=True)
        pending = processes.new_record()
        pending.save(self._record)
        argv = [self._python, "-m", _MODULE, str(self._root)]
        processes.start(argv, environment=self._environment(address), log=self._log, record=pending).save(self._record)

    def _shut_down_serve(self) -> None:
        """Shut down a Serve that has no controller; a no-op when its Ray has stopped."""
        address_file = self._root / _ADDRESS_NAME
        if not address_file.exists():
            return
        address = address_file.read_text(encoding="ascii")
        argv = [self._python, "-m", _MODULE, str(self._root), "--shut-down"]
        pending = processes.new_record()
        child = processes.start(argv, environment=self._environment(address), log=self._log, record=pending)
        if not processes.wait(child, _STOP_SECONDS):
            processes.kill(child)
        self._port.unlink(missing_ok=True)

    def _environment(self, address: str) -> dict[str, str]:
        return processes.clean_environment({**self._ray.environment(), "RAY_ADDRESS": address})

    def _controller_alive(self) -> bool:
        record = ProcessRecord.load(self._record)
        return record is not None and processes.is_alive(record) and not self._is_hung(record)

    def _is_hung(self, record: ProcessRecord) -> bool:
        """Return whether the controller's heartbeat has not changed for too long, as seen by this process."""
        pid, count, since = self._heartbeat
        now, current = self._clock(), read_heartbeat(self._root)
        if (pid, count) != (record.pid, current):
            self._heartbeat = (record.pid, current, now)
            return False
        return record.pid is not None and now - since > _HUNG_AFTER_SECONDS

    def _serve_may_run(self) -> bool:
        """Return whether Serve may run without a controller: its port file exists and its Ray is up."""
        address = self._root / _ADDRESS_NAME
        return self._port.exists() and address.exists() and is_listening(address.read_text(encoding="ascii"))

    def _failure(self) -> str:
        if self._start_error is not None:
            return self._start_error.message
        return f"the model server is not running: {log_tail(self._log, lines=1) or 'its log is empty'}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _parse(content: bytes, kind: type[_Model]) -> _Model | None:
    """Parse a file of another process; None when it is missing or invalid."""
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        return None


def _answers(base_url: str) -> bool:
    return bool(base_url) and is_listening(base_url.removeprefix("http://"))


def _merged(desired: DesiredState, last: ServeControllerStatus, headers: dict[str, str]) -> tuple[AppStatus, ...]:
    """Return a status for every desired application, and for others that are still running."""
    known = {app.key: app for app in last.status.apps}
    desired_keys = {app.key for app in desired.apps}
    desired_apps = (_desired_status(app, known.get(app.key)) for app in desired.apps)
    terminating = (_terminating(app) for app in last.status.apps if app.key not in desired_keys)
    return tuple(
        app.model_copy(update={"url": f"{last.base_url}/{app.key}" if last.base_url else "", "headers": headers})
        for app in (*desired_apps, *terminating)
    )


def _desired_status(app: ServedApp, observed: AppStatus | None) -> AppStatus:
    """Return the observed status, unless it belongs to an earlier application that is still terminating."""
    if observed is None or observed.state is AppState.TERMINATING:
        return _deploying(app, "waiting for the model server")
    return observed


def _terminating(observed: AppStatus) -> AppStatus:
    return observed.model_copy(update={"state": AppState.TERMINATING, "message": "stopping"})


def _deploying(app: ServedApp, message: str) -> AppStatus:
    return AppStatus(key=app.key, state=AppState.DEPLOYING, message=message)
