"""Outbox dispatchers in processes of their own over one database, as of several replicas of the worker."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.fakes.harness import ControlPlaneHarness

from windlass.db.engines import sqlite_engine
from windlass.db.migrate import migrate
from windlass.db.session import SqlDatabase
from windlass.domain.records import Intent
from windlass.kit.lease import LeaseObserver
from windlass_api.outbox_dispatcher import OutboxDispatcher
from windlass_api.process import SystemClock

LEASE = timedelta(seconds=6)
"""Long enough that a busy machine renews it, short enough to wait for its end."""
_TIMEOUT_SECONDS = 120.0
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


@dataclass
class DispatcherProcesses:
    """The database, and the log of what was handled: lines of worker, ``begin`` or ``end``, and subject."""

    root: Path
    processes: dict[str, BaseProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        engine = sqlite_engine(self.root / "windlass.db")
        migrate(engine)
        self.database = SqlDatabase(engine, SystemClock())
        self.log.touch()

    @property
    def log(self) -> Path:
        return self.root / "log"

    def start(self, worker: str, *, hold: bool = False) -> None:
        """Start a dispatcher; with ``hold`` its handlers wait until ``release`` is called."""
        if hold:
            self.hold(worker)
        process = _PROCESSES.Process(target=_dispatch, args=(self.root, worker), name=worker)
        process.start()
        self.processes[worker] = process

    def set_wall_clock(self, worker: str, seconds: int) -> None:
        """Let the wall clock of a worker, which may run, show a time that is off by ``seconds``."""
        file = self.root / f"{worker}.clock"
        file.with_suffix(".new").write_text(str(seconds))
        file.with_suffix(".new").rename(file)

    def hold(self, worker: str) -> None:
        """Let the handlers of a worker wait from now on until ``release`` is called."""
        (self.root / f"{worker}.hold").touch()

    def release(self, worker: str) -> None:
        (self.root / f"{worker}.hold").unlink()

    def signal(self, worker: str, number: signal.Signals) -> None:
        os.kill(self.processes[worker].pid or 0, number)

    def put(self, *subjects: str) -> None:
        """Put one intent per subject, each in a queue of its own."""
        with self.database.write() as uow:
            for subject in subjects:
                uow.outbox.put("kind", f"project of {subject}", subject)

    def left(self) -> list[str]:
        """Return the subjects of the intents in the outbox."""
        with self.database.read() as uow:
            return uow.outbox.subjects("kind")

    def holders(self) -> list[str | None]:
        with self.database.read() as uow:
            return [intent.holder for intent in uow.outbox.leased()]

    def entries(self) -> list[tuple[str, str, str]]:
        """Return the worker, the phase and the subject of every line of the log."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [(worker, phase, subject) for worker, phase, subject in lines]

    def wait_for(self, condition: Callable[[], bool], description: str) -> None:
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (description, self.entries()[-5:])
            time.sleep(0.02)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.join()
        self.database.close()


class SkewedClock(SystemClock):
    """The system clock, with a wall clock that is off by the seconds that a file holds."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        off = int(self._file.read_text()) if self._file.exists() else 0
        return super().now() + timedelta(seconds=off)


def _dispatch(root: Path, worker: str) -> None:
    private = root / worker
    private.mkdir()
    hold, log = root / f"{worker}.hold", os.open(root / "log", os.O_WRONLY | os.O_APPEND)

    def handle(intent: Intent) -> None:
        os.write(log, f"{worker} begin {intent.subject}\n".encode())
        while hold.exists():
            time.sleep(0.01)
        os.write(log, f"{worker} end {intent.subject}\n".encode())

    clock = SkewedClock(root / f"{worker}.clock")
    database = SqlDatabase(sqlite_engine(root / "windlass.db"), clock)
    deps = replace(ControlPlaneHarness(private).deps, database=database, clock=clock, leases=LeaseObserver())
    wake = threading.Event()
    dispatcher = OutboxDispatcher(deps, LEASE, handle, holder=worker, after=wake.set)
    while True:
        seconds = dispatcher.run_once()
        wake.wait(0.1 if seconds is None else min(seconds, 0.1))
        wake.clear()
