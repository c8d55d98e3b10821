"""Faults of supervised processes: a failing fork, a killed process, a restart of the machine."""

import errno
import os
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
