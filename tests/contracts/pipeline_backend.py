"""The contract of every ``ports.PipelineBackend``."""

from typing import Protocol

import pytest

from windlass.ports import BackendState, PipelineBackend
from windlass.runtime.context import RunContext


class RunDriver(Protocol):
    """Controls one job with one run."""

    def backend(self) -> PipelineBackend:
        """The backend of another server process."""
        ...

    def context(self) -> RunContext:
        """The context that the run is submitted with."""
        ...

    def finish(self, result: str) -> None:
        """End the trainer: ``ok`` or ``fail``."""
        ...

    def preempt(self) -> None:
        """Send a preempt command."""
        ...

    def wait_ended(self) -> BackendState:
        """Wait until the run has ended, and return its state."""
        ...

    def starts(self) -> int:
        """How often the run was started."""
        ...


class PipelineBackendContract:
    """Subclasses provide the fixture ``driver``."""

    def test_a_run_that_was_never_submitted_is_unknown(self, driver: RunDriver) -> None:
        assert driver.backend().poll("job-never-r1").state is BackendState.UNKNOWN

    def test_killing_a_run_that_was_never_submitted_is_no_error(self, driver: RunDriver) -> None:
        driver.backend().kill("job-never-r1")
        assert driver.backend().poll("job-never-r1").state is BackendState.UNKNOWN

    def test_a_run_that_trains_and_registers_succeeds(self, driver: RunDriver) -> None:
        backend, name = driver.backend(), driver.context().identity.name
        backend.submit(driver.context())
        assert backend.poll(name).state is BackendState.RUNNING
        driver.finish("ok")
        assert driver.wait_ended() is BackendState.SUCCEEDED
        assert backend.poll(name).name == name

    def test_a_second_submit_adopts_the_first_run(self, driver: RunDriver) -> None:
        assert driver.backend().submit(driver.context()) is True
        assert driver.backend().submit(driver.context()) is False
        driver.finish("ok")
        assert driver.wait_ended() is BackendState.SUCCEEDED
        assert driver.backend().submit(driver.context()) is False
        assert driver.backend().poll(driver.context().identity.name).state is BackendState.SUCCEEDED
        assert driver.starts() == 1

    def test_a_failed_run_has_a_message(self, driver: RunDriver) -> None:
        driver.backend().submit(driver.context())
        driver.finish("fail")
        assert driver.wait_ended() is BackendState.FAILED
        assert "the loss is not a number" in driver.backend().poll(driver.context().identity.name).message

    def test_a_preempted_run_is_stopped_not_failed(self, driver: RunDriver) -> None:
        driver.backend().submit(driver.context())
        driver.preempt()
        assert driver.wait_ended() is BackendState.STOPPED

    def test_a_killed_run_is_lost_and_can_be_killed_again(self, driver: RunDriver) -> None:
        backend, name = driver.backend(), driver.context().identity.name
        backend.submit(driver.context())
        backend.kill(name)
        assert backend.poll(name).state is BackendState.LOST
        backend.kill(name)
        assert backend.poll(name).state is BackendState.LOST

    def test_a_paused_run_is_running_and_goes_on(self, driver: RunDriver) -> None:
        backend, name = driver.backend(), driver.context().identity.name
        backend.submit(driver.context())
        backend.pause(name)
        assert driver.backend().poll(name).state is BackendState.RUNNING
        driver.backend().resume(name)
        resumed = driver.backend().poll(name)
        assert (resumed.state, resumed.paused) == (BackendState.RUNNING, False)
        driver.finish("ok")
        assert driver.wait_ended() is BackendState.SUCCEEDED
        driver.backend().pause(name)
        driver.backend().resume(name)
        assert driver.backend().poll(name).state is BackendState.SUCCEEDED

    def test_a_paused_run_can_be_killed(self, driver: RunDriver) -> None:
        backend, name = driver.backend(), driver.context().identity.name
        backend.submit(driver.context())
        backend.pause(name)
        backend.kill(name)
        assert backend.poll(name).state is BackendState.LOST

    def test_pausing_a_run_that_was_never_submitted_is_no_error(self, driver: RunDriver) -> None:
        driver.backend().pause("job-never-r1")
        driver.backend().resume("job-never-r1")
        assert driver.backend().poll("job-never-r1").state is BackendState.UNKNOWN

    @pytest.mark.parametrize("result", ["ok", "fail"])
    def test_killing_an_ended_run_does_not_change_its_state(self, driver: RunDriver, result: str) -> None:
        driver.backend().submit(driver.context())
        driver.finish(result)
        wait_ended = driver.wait_ended()
        driver.backend().kill(driver.context().identity.name)
        assert driver.backend().poll(driver.context().identity.name).state is wait_ended
