"""Trainers as local child processes that join the local Ray."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from windlass.orchestration import processes
from windlass.orchestration.supervisor import ProcessState, SupervisedProcess
from windlass.ports.launcher import RunLostError, TrainerState, TrainerStatus
from windlass.runtime.context import RunContext
from windlass.runtime.net import is_connection_refused

_PROBE_SECONDS = 1.0
_MAX_REFUSALS = 3
"""Consecutive refused connections after which Ray counts as lost."""
_RETRY_SECONDS = 0.1
_LOG_CHUNK_BYTES = 1 << 20


class LocalLauncher:
    """Implements ``ports.Launcher`` for the one run that has this workspace.

    Each start has a folder, ``<workspace>/trainer/<start>``, with ``process.json`` and ``log``.

    Args:
        workspace: the run's workspace.
        trainer: absolute path of the program and its arguments.
        ray_address: the Ray that the trainer joins.
        environment: variables of the trainer.
    """

    def __init__(
        self, workspace: Path, trainer: Sequence[str], ray_address: str, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._workspace, self._trainer, self._ray_address = workspace, trainer, ray_address
        # Without the runner's TMPDIR, whose path in the workspace is too long for a Unix socket.
        self._environment = {name: value for name, value in environment.items() if name != "TMPDIR"}
        self._refusals, self._probed_at = 0, 0.0

    def launch(self, context: RunContext, start: int) -> None:
        del context  # the trainer reads it from the file that its environment names
        with SupervisedProcess(_folder(self._workspace) / str(start)).locked() as process:
            if process.state() in (ProcessState.RUNNING, ProcessState.EXITED):
                return
            if self._is_ray_lost():
                raise RunLostError(self._lost_message)
            process.start(self._trainer, self._environment)

    def poll(self, run_name: str) -> TrainerStatus:
        del run_name  # the workspace has one run
        start = max(_starts(self._workspace), default=0)
        with SupervisedProcess(_folder(self._workspace) / str(start)).existing() as process:
            state = process.state() if process else ProcessState.ABSENT
            if process is None or state is ProcessState.ABSENT:
                return TrainerStatus(state=TrainerState.UNKNOWN)
            if state is ProcessState.RUNNING:
                if self._loses_ray():
                    return TrainerStatus(state=TrainerState.LOST, start=start, message=self._lost_message)
                return TrainerStatus(state=TrainerState.RUNNING, start=start)
            code = process.record.exit_code if process.record else None
        if code == 0:
            return TrainerStatus(state=TrainerState.SUCCEEDED, start=start, exit_code=code, message=_exit_reason(code))
        lost = self._is_ray_lost()
        message = f"{_exit_reason(code)}; {self._lost_message}" if lost else _exit_reason(code)
        ended = TrainerState.LOST if lost else TrainerState.FAILED
        return TrainerStatus(state=ended, start=start, exit_code=code, message=message)

    def read_log(self, run_name: str, offset: int) -> bytes:
        del run_name
        start = max(_starts(self._workspace), default=0)
        try:
            with SupervisedProcess(_folder(self._workspace) / str(start)).log.open("rb") as stream:
                stream.seek(offset)
                return stream.read(_LOG_CHUNK_BYTES)
        except FileNotFoundError:
            return b""

    def stop(self, run_name: str) -> None:
        del run_name
        for start in _starts(self._workspace):
            with SupervisedProcess(_folder(self._workspace) / str(start)).existing() as process:
                if process is not None and process.record is not None:
                    processes.send_signal(process.record, signal.SIGTERM)

    def kill(self, run_name: str) -> None:
        del run_name
        kill_trainers(self._workspace)

    @property
    def _lost_message(self) -> str:
        return f"Ray at {self._ray_address} is lost"

    def _is_ray_lost(self) -> bool:
        """Return whether Ray refuses several connections in a row."""
        for refusals in range(_MAX_REFUSALS):
            if refusals:
                time.sleep(_RETRY_SECONDS)
            if not is_connection_refused(self._ray_address):
                return False
        return True

    def _loses_ray(self) -> bool:
        """Probe Ray, at most once in ``_PROBE_SECONDS``: calls into a lost Ray block for minutes."""
        now = time.monotonic()
        if now > self._probed_at + _PROBE_SECONDS:
            self._refusals = self._refusals + 1 if is_connection_refused(self._ray_address) else 0
            self._probed_at = now
        return self._refusals >= _MAX_REFUSALS


def kill_trainers(workspace: Path) -> None:
    """End all trainers of a run, also when what launched them has died. Raises as ``Launcher.kill``."""
    for start in _starts(workspace):
        with SupervisedProcess(_folder(workspace) / str(start)).existing() as process:
            if process is not None:
                process.kill()


def _folder(workspace: Path) -> Path:
    return workspace / "trainer"


def _starts(workspace: Path) -> list[int]:
    folder = _folder(workspace)
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def _exit_reason(code: int | None) -> str:
    if code is None:
        return "it was killed together with what launched it"
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
