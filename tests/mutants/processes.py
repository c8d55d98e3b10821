"""Runs functions in forked processes, some at a time, each with a time limit and a log."""

import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class ForkedRun:
    """A function to run; it returns the exit code of its process."""

    name: str
    run: Callable[[], int]
    timeout: float
    cpu_timeout: float
    """In seconds of CPU time, so that an endless loop ends soon and a busy machine is no timeout."""


@dataclass(frozen=True)
class Ended:
    """How the process of a task has ended; ``exit_code`` None: it exceeded its time limit and was killed."""

    task: ForkedRun
    exit_code: int | None
    log: str


def run_forked(tasks: Iterable[ForkedRun], parallel: int) -> Iterator[Ended]:
    """Run the tasks, ``parallel`` at a time, and yield them as they end."""
    pending, running = iter(tasks), dict[int, tuple[ForkedRun, float, Path]]()
    while True:
        while len(running) < parallel and (task := next(pending, None)) is not None:
            folder = Path(tempfile.mkdtemp(prefix="windlass-mutant-"))
            running[_fork(task, folder)] = task, time.monotonic() + task.timeout, folder
        if not running:
            return
        time.sleep(_POLL_SECONDS)
        for pid, (task, deadline, folder) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() < deadline:
                continue
            _kill_group(pid)
            if not ended:
                os.waitpid(pid, 0)
            del running[pid]
            log = (folder / "log").read_text(encoding="utf-8", errors="replace")
            shutil.rmtree(folder, ignore_errors=True)
            code = os.waitstatus_to_exitcode(status) if ended else -signal.SIGXCPU
            yield Ended(task, None if code == -signal.SIGXCPU else code, log)


def _kill_group(pid: int) -> None:
    """Kill a process and what its tests have started."""
    with suppress(ProcessLookupError):  # nothing is left of it
        os.killpg(pid, signal.SIGKILL)


def _fork(task: ForkedRun, folder: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setpgid(0, 0)
            seconds = math.ceil(task.cpu_timeout)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            os.dup2(log, 1)
            os.dup2(log, 2)
            # pytest and tempfile: temporary files of a killed process are deleted with the folder
            os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
            tempfile.tempdir = None
            code = task.run()
        except BaseException:  # noqa: BLE001 - the traceback belongs in the log, whatever it is
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(log)
    return pid
