"""Starts one child process under a record in a folder, and finds, polls and kills it from this server or a later one.

The record is written before the process starts, and completed with its pid afterwards. A server that is killed in
between leaves a record without pid: its process is located by its tree id, or was never started. Every operation runs
under the folder's lock, so no server sees the record of a process that another server is about to start.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from windlass.domain.errors import UnavailableError
from windlass.kit.failpoints import failpoint
from windlass.kit.files import log_tail
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord

RECORD_NAME = "process.json"


class ProcessState(StrEnum):
    """The state of a supervised process."""

    ABSENT = "absent"
    """It was never started, or is deleted."""
    INTERRUPTED = "interrupted"
    """It has a record but no process: its server was killed before the start, or the machine restarted."""
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True)
class LockedProcess:
    """The operations on a process while its folder is locked."""

    folder: Path
    log: Path

    @property
    def _record_path(self) -> Path:
        return self.folder / RECORD_NAME

    @property
    def record(self) -> ProcessRecord | None:
        """The stored record, None when there is none."""
        return ProcessRecord.load(self._record_path)

    def state(self) -> ProcessState:
        """Return the state; complete the record of a process that an earlier server started, and reap it.

        Read a result of the process after this: it may finish in between.
        """
        record = self.record
        if record is None:
            return ProcessState.ABSENT
        if record.pid is None:
            record = processes.locate(record)
            if record.pid is None:
                return ProcessState.INTERRUPTED
            record.save(self._record_path)
        if not record.of_this_boot:
            return ProcessState.INTERRUPTED
        if processes.is_running(record):
            return ProcessState.RUNNING
        code = processes.reap(record)
        if code is not None:
            record.model_copy(update={"exit_code": code}).save(self._record_path)
        return ProcessState.EXITED

    def has_begun(self, result: Path) -> bool:
        """Return whether the process must not be started again: it runs, has exited, or has written its result."""
        state = self.state()
        return state in (ProcessState.RUNNING, ProcessState.EXITED) or (
            state is ProcessState.INTERRUPTED and result.exists()
        )

    def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> ProcessRecord:
        """Start a process in place of an earlier one, which must not run. Arguments as of ``processes.start``.

        Raises:
            UnavailableError: the program cannot be started; nothing is recorded.
            OSError: the record cannot be written.
        """
        pending = processes.new_record()
        pending.save(self._record_path)
        failpoint("process.recorded")
        try:
            started = processes.start(argv, environment=environment, log=self.log, record=pending)
        except UnavailableError:
            self._record_path.unlink()
            raise
        failpoint("process.started")
        started.save(self._record_path)
        return started

    def exit_reason(self) -> str:
        """Return how the process ended, with the end of its log."""
        record = self.record
        code = record.exit_code if record else None
        if code is None:
            reason = "died"
        else:
            reason = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
        return f"{reason}: {self.log_tail()}"

    def log_tail(self) -> str:
        """Return the printable characters of the log's last lines."""
        text = "".join(char if char.isprintable() or char == "\n" else " " for char in log_tail(self.log))
        return text.strip() or "its log is empty"

    def kill(self, *, grace_seconds: float = 0.0) -> None:
        """Kill the process tree; the record stays. Raises as ``processes.kill``."""
        record = self.record
        if record is not None:
            processes.kill(processes.locate(record), grace_seconds=grace_seconds)

    def clear(self, *, grace_seconds: float = 0.0) -> None:
        """Kill the process tree and delete the record: the process counts as never started."""
        self.kill(grace_seconds=grace_seconds)
        self._record_path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Kill the process tree and delete the folder."""
        self.kill()
        shutil.rmtree(self.folder)


@dataclass(frozen=True)
class SupervisedProcess:
    """The process of a folder; ``log_name`` is the file of its output."""

    folder: Path
    log_name: str = "log"

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.folder / self.log_name

    @contextlib.contextmanager
    def locked(self) -> Iterator[LockedProcess]:
        """Lock the folder and create it if necessary."""
        with processes.lock_folder(self.folder, blocking=True):
            yield LockedProcess(self.folder, self.log)

    @contextlib.contextmanager
    def existing(self) -> Iterator[LockedProcess | None]:
        """Lock the folder; None when it does not exist."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(processes.lock_folder(self.folder, blocking=True, create=False))
            except FileNotFoundError:
                process = None
            else:
                process = LockedProcess(self.folder, self.log)
            yield process
