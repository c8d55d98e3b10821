"""The contract of every ``ports.Launcher``."""

import time
from typing import Protocol

import pytest

from windlass.ports import Launcher, RunLostError, TrainerState, TrainerStatus
from windlass.runtime.context import RunContext

_TIMEOUT_SECONDS = 120


class TrainerDriver(Protocol):
    """Controls the trainers of one run."""

    def launcher(self) -> Launcher:
        """The launcher of another process over the same state."""
        ...

    def context(self) -> RunContext:
        """The context of the run."""
        ...

    def wait_started(self) -> None:
        """Wait until the newest trainer handles requests to stop."""
        ...

    def exit(self, code: int) -> None:
        """Let the running trainer print ``exit <code>`` and exit."""
        ...

    def crash(self) -> None:
        """Kill the running trainer."""
        ...

    def lose_cluster(self) -> None:
        """End what the trainers need."""
        ...

    def starts(self) -> int:
        """How many trainers were started."""
        ...

    def stop_requests(self) -> int:
        """How many requests to stop the trainers have received."""
        ...


def ended(driver: TrainerDriver, launcher: Launcher | None = None) -> TrainerStatus:
    """Wait for the end of the newest start."""
    deadline, watching = time.monotonic() + _TIMEOUT_SECONDS, launcher or driver.launcher()
    while not (status := watching.poll(driver.context().identity.name)).ended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return status


def is_live(status: TrainerStatus) -> bool:
    """Whether a trainer runs, or waits for its resources."""
    return status.state in (TrainerState.PENDING, TrainerState.RUNNING)


class LauncherContract:
    """Subclasses provide the fixture ``driver``."""

    def test_a_trainer_that_was_never_launched_is_unknown(self, driver: TrainerDriver) -> None:
        launcher, name = driver.launcher(), driver.context().identity.name
        assert launcher.poll(name).state is TrainerState.UNKNOWN
        assert launcher.read_log(name, 0) == b""
        launcher.stop(name)
        launcher.kill(name)
        assert launcher.poll(name).state is TrainerState.UNKNOWN

    def test_a_trainer_runs_to_its_end(self, driver: TrainerDriver) -> None:
        launcher, name = driver.launcher(), driver.context().identity.name
        launcher.launch(driver.context(), 1)
        status = launcher.poll(name)
        assert status.state in (TrainerState.PENDING, TrainerState.RUNNING)
        assert (status.start, status.ended) == (1, False)
        driver.exit(0)
        status = ended(driver, launcher)
        assert (status.state, status.start) == (TrainerState.SUCCEEDED, 1)

    def test_a_repeated_launch_starts_nothing(self, driver: TrainerDriver) -> None:
        driver.launcher().launch(driver.context(), 1)
        driver.launcher().launch(driver.context(), 1)
        driver.exit(1)
        assert ended(driver).state is TrainerState.FAILED
        driver.launcher().launch(driver.context(), 1)
        assert ended(driver).state is TrainerState.FAILED
        assert driver.starts() == 1

    def test_the_next_start_replaces_an_ended_one(self, driver: TrainerDriver) -> None:
        launcher = driver.launcher()
        launcher.launch(driver.context(), 1)
        driver.exit(1)
        assert ended(driver, launcher).exit_code in (1, None)
        launcher.launch(driver.context(), 2)
        assert launcher.poll(driver.context().identity.name).start == 2
        assert driver.launcher().poll(driver.context().identity.name).start == 2
        driver.exit(0)
        assert ended(driver, launcher).state is TrainerState.SUCCEEDED
        assert driver.starts() == 2

    def test_a_killed_trainer_has_failed_and_says_how(self, driver: TrainerDriver) -> None:
        launcher = driver.launcher()
        launcher.launch(driver.context(), 1)
        driver.crash()
        status = ended(driver, launcher)
        assert status.state is TrainerState.FAILED
        assert status.message

    def test_kill_ends_the_trainer_and_can_be_repeated(self, driver: TrainerDriver) -> None:
        launcher, name = driver.launcher(), driver.context().identity.name
        launcher.launch(driver.context(), 1)
        driver.launcher().kill(name)
        assert not is_live(launcher.poll(name))
        launcher.kill(name)
        assert not is_live(launcher.poll(name))

    def test_stop_asks_the_trainer_and_returns_at_once(self, driver: TrainerDriver) -> None:
        launcher, name = driver.launcher(), driver.context().identity.name
        launcher.launch(driver.context(), 1)
        driver.wait_started()
        driver.launcher().stop(name)
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while driver.stop_requests() == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not launcher.poll(name).ended
        driver.exit(0)
        assert ended(driver, launcher).state is TrainerState.SUCCEEDED

    def test_there_is_no_output_beyond_its_end(self, driver: TrainerDriver) -> None:
        launcher, name = driver.launcher(), driver.context().identity.name
        launcher.launch(driver.context(), 1)
        driver.exit(0)
        ended(driver, launcher)
        output = launcher.read_log(name, 0)
        assert launcher.read_log(name, len(output)) == b""

    def test_a_trainer_without_what_it_needs_is_lost(self, driver: TrainerDriver) -> None:
        launcher = driver.launcher()
        launcher.launch(driver.context(), 1)
        driver.wait_started()
        driver.lose_cluster()
        status = ended(driver, launcher)
        assert status.state is TrainerState.LOST
        assert status.message
        launcher.kill(driver.context().identity.name)
        with pytest.raises(RunLostError):
            launcher.launch(driver.context(), 2)
        assert driver.starts() == 1
