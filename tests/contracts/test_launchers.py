"""Runs the launcher contract on local child processes."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.contracts.launcher import LauncherContract, TrainerDriver, ended
from tests.factories.local_runs import trainer_record
from tests.factories.run_contexts import run_context
from tests.factories.training_runs import job_spec

from windlass.orchestration.local_launcher import LocalLauncher, kill_trainers
from windlass.ports import Launcher, TrainerState
from windlass.runtime.context import RunContext

TRAINER = """
import os, signal, sys, time
from pathlib import Path

root = Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: (root / "stops").open("a").write("x"))
print("tmpdir", os.environ.get("TMPDIR"), flush=True)
(root / "starts").open("a").write("x")
command = root / f"exit-{os.getpid()}"
while not command.exists():
    time.sleep(0.01)
print("exit", command.read_text(), flush=True)
sys.exit(int(command.read_text()))
"""
"""Trains nothing; it exits when the test writes its exit code."""


@dataclass
class ChildProcessDriver:
    """Real child processes, and a socket in place of Ray."""

    root: Path
    ray: socket.socket

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    def launcher(self) -> Launcher:
        address = f"127.0.0.1:{self.ray.getsockname()[1]}"
        return LocalLauncher(self.workspace, [sys.executable, "-c", TRAINER, str(self.root)], address)

    def context(self) -> RunContext:
        return run_context(self.root, job_spec())

    def wait_started(self) -> None:
        number = len(list((self.workspace / "trainer").iterdir()))
        deadline = time.monotonic() + 60
        while self.starts() < number:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def exit(self, code: int) -> None:
        self.wait_started()
        draft = self.root / "draft"
        draft.write_text(str(code))
        draft.rename(self.root / f"exit-{trainer_record(self.workspace).pid}")

    def crash(self) -> None:
        self.wait_started()
        os.kill(trainer_record(self.workspace).pid or 0, signal.SIGKILL)

    def lose_cluster(self) -> None:
        address = self.ray.getsockname()
        self.ray.close()
        self.ray = socket.socket()  # keeps the port, so that nobody listens on it
        self.ray.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.ray.bind(address)

    def starts(self) -> int:
        return self._count("starts")

    def stop_requests(self) -> int:
        return self._count("stops")

    def _count(self, name: str) -> int:
        path = self.root / name
        return path.stat().st_size if path.exists() else 0


@pytest.mark.processes
class TestLocalLauncher(LauncherContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[TrainerDriver]:
        started = ChildProcessDriver(tmp_path, socket.create_server(("127.0.0.1", 0)))
        yield started
        kill_trainers(started.workspace)
        started.ray.close()

    def test_the_exit_code_and_the_signal_are_known(self, driver: TrainerDriver) -> None:
        launcher = driver.launcher()
        launcher.launch(driver.context(), 1)
        driver.exit(3)
        status = ended(driver, launcher)
        assert (status.exit_code, status.message) == (3, "exit code 3")
        launcher.launch(driver.context(), 2)
        driver.crash()
        status = ended(driver, launcher)
        assert (status.exit_code, status.message) == (-9, "signal 9 (Killed)")

    def test_the_log_of_the_newest_start_is_read_in_parts(self, driver: TrainerDriver) -> None:
        launcher, name = driver.launcher(), driver.context().identity.name
        for start, code in ((1, 1), (2, 0)):
            launcher.launch(driver.context(), start)
            driver.exit(code)
            ended(driver, launcher)
        output = launcher.read_log(name, 0)
        assert output.endswith(b"exit 0\n")
        assert b"exit 1" not in output
        assert launcher.read_log(name, len(output) - 2) == b"0\n"
        assert launcher.read_log(name, len(output)) == b""

    def test_a_killed_trainer_stays_known(self, driver: TrainerDriver) -> None:
        launcher, name = driver.launcher(), driver.context().identity.name
        launcher.launch(driver.context(), 1)
        driver.launcher().kill(name)
        launcher.kill(name)
        assert launcher.poll(name).state is TrainerState.FAILED

    def test_trainers_are_killed_when_what_launched_them_has_died(self, driver: ChildProcessDriver) -> None:
        driver.launcher().launch(driver.context(), 1)
        kill_trainers(driver.workspace)
        assert driver.launcher().poll("job-1-r1").state is TrainerState.FAILED

    def test_the_trainer_does_not_get_the_temporary_folder_of_the_run(
        self, driver: ChildProcessDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(os.environ, "TMPDIR", "/a/path/that/is/too/long")
        driver.launcher().launch(driver.context(), 1)
        driver.exit(0)
        ended(driver)
        assert b"tmpdir None" in driver.launcher().read_log("job-1-r1", 0)
