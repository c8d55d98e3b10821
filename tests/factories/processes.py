"""Faults of processes: a failing fork, a killed process, a restart of the machine."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.orchestration.supervisor import RECORD_NAME


def record_of(folder: Path) -> ProcessRecord:
    """Return the stored record of a process that was started."""
    record = ProcessRecord.load(folder / RECORD_NAME)
    assert record is not None
    return record


def restart_machine(folder: Path) -> None:
    """Kill the process, and make its record one of an earlier boot."""
    record = record_of(folder)
    processes.kill(record)
    record.model_copy(update={"boot": "an earlier boot", "exit_code": None}).save(folder / RECORD_NAME)


class Forks:
    """Counts the processes that are started, and lets starts fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fail = False
        spawn = os.posix_spawn

        def counted(*args: Any, **kwargs: Any) -> int:
            if self.fail:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self.count += 1
            return spawn(*args, **kwargs)

        monkeypatch.setattr(os, "posix_spawn", counted)


def is_killed_at(audit_events: Collection[str], number: int, action: Callable[[], object]) -> bool:
    """Call ``action`` in a child that is killed at its n-th of these audit events; return whether it was killed."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, _arguments: object) -> None:
            nonlocal seen
            if event in audit_events:
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
