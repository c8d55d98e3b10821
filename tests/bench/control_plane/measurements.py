"""Measures a real server, and the worker's threads of this process."""

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from tests.bench.control_plane.seeding import MAX_ACTIVE_JOBS, PROJECT, SPEC, seed
from tests.e2e.servers import ServerProcess, free_port
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.jobs import Run
from windlass.ports import BackendState, Changes, UnitOfWork

_SETTLE_SECONDS = 8.0
_WARM_UP = 30


class Submitter:
    """Submits jobs over one connection."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def submit(self, number: int, key: str) -> None:
        """Submit some jobs, one after another."""
        body = json.dumps({"spec": SPEC})
        for each in range(number):
            headers = {**self._headers, "Idempotency-Key": f"{key}-{each}"}
            self._connection.request("POST", f"/v1/projects/{PROJECT}/jobs", body, headers)
            response = self._connection.getresponse()
            text = response.read()
            assert response.status == http.HTTPStatus.ACCEPTED, text


@contextlib.contextmanager
def server(folder: Path, queued: int) -> Iterator["tuple[psutil.Process, Submitter]"]:
    """Run ``windlass up`` on a data directory with queued jobs that cannot start."""
    home = folder / f"queued-{queued}"
    seed(home, queued, blocked=True).close()
    process = ServerProcess(home, free_port(), settings={"WINDLASS_LIMIT_MAX_ACTIVE_JOBS": str(MAX_ACTIVE_JOBS)})
    try:
        process.start()
        assert process.process is not None
        key = (home / "admin.key").read_text().strip()
        yield psutil.Process(process.process.pid), Submitter(process.port, key)
    finally:
        process.stop()


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process and its children."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def idle_percent(process: psutil.Process, seconds: float) -> float:
    """Return the percentage of a core that the process uses without requests."""
    time.sleep(_SETTLE_SECONDS)
    before, began = cpu_seconds(process), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_seconds(process) - before) / (time.monotonic() - began)


def submit_milliseconds(process: psutil.Process, submitter: Submitter, requests: int) -> float:
    """Return the CPU milliseconds of the server per submission."""
    submitter.submit(_WARM_UP, "warm")
    before = cpu_seconds(process)
    submitter.submit(requests, "measured")
    return 1000 * (cpu_seconds(process) - before) / requests


class _AdmissionTimes:
    """A commit hook that records when runs end and when runs are created: wall and CPU time of this process."""

    def __init__(self) -> None:
        self.ended: list[tuple[float, float]] = []
        self.admitted: list[tuple[float, float]] = []

    def prepare(self, uow: UnitOfWork, changes: Changes) -> Callable[[], None] | None:
        del uow
        runs = [run for run in changes.saved.get(Run, ()) if isinstance(run, Run)]
        ended = any(run.ended_at is not None for run in runs)
        admitted = any(run.ended_at is None and run.version == 1 for run in runs)

        def record() -> None:
            now = time.perf_counter(), time.process_time()
            self.ended += [now] if ended else []
            self.admitted += [now] if admitted else []

        return record


def _running(harness: ControlPlaneHarness) -> list[str]:
    return [name for name, run in list(harness.pipelines.states.items()) if run.state is BackendState.RUNNING]


def admission_milliseconds(folder: Path, queued: int, jobs: int) -> tuple[list[float], list[float]]:
    """Return the times from the commit of a job's end to the commit of the next admission, and the CPU times in them.

    The CPU time does not depend on what else the machine executes.
    """
    harness = seed(folder / f"admission-{queued}", queued, blocked=False)
    times = _AdmissionTimes()
    harness.database.add_commit_hook(times)
    harness.worker.start()
    try:
        for _ in range(jobs + 1):
            deadline = time.monotonic() + 60
            while not (running := _running(harness)):
                assert time.monotonic() < deadline, "no job was admitted"
                time.sleep(0.005)
            for name in running:
                harness.pipelines.end(name, BackendState.FAILED)
    finally:
        harness.close()
    pairs = list(zip(times.ended, times.admitted[1:], strict=False))
    wall = [1000 * (admitted[0] - ended[0]) for ended, admitted in pairs]
    return wall, [1000 * (admitted[1] - ended[1]) for ended, admitted in pairs]
