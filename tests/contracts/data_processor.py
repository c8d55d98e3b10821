"""The contract of every ``ports.DataProcessor``."""

import time
from typing import Protocol

import pytest

from windlass.domain.datasets import DataRequest, DataResult
from windlass.domain.errors import NotFoundError, UnavailableError
from windlass.ports import DataProcessor, TaskFailedError

NAME = "dsv_01"
_TIMEOUT_SECONDS = 120


class ProcessorDriver(Protocol):
    """Controls the process of one request."""

    def processor(self) -> DataProcessor:
        """The processor of another server over the same state."""
        ...

    def request(self) -> DataRequest:
        """A request that is processed until ``finish`` is called."""
        ...

    def finish(self) -> None:
        """Let the process end with a result."""
        ...

    def crash(self) -> None:
        """Kill the process."""
        ...

    def restart_machine(self) -> None:
        """End all processes, and forget what the kernel knows about them."""
        ...

    def fail_starts(self, *, fail: bool) -> None:
        """Make every start of a process fail for lack of resources, or succeed again."""
        ...

    def starts(self) -> int:
        """How many processes were started."""
        ...


def result_of(processor: DataProcessor) -> DataResult:
    """Wait for the result."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while (result := processor.poll(NAME)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result


class DataProcessorContract:
    """Subclasses provide the fixture ``driver``."""

    def test_a_request_that_was_never_started_is_not_found(self, driver: ProcessorDriver) -> None:
        with pytest.raises(NotFoundError):
            driver.processor().poll(NAME)
        driver.processor().delete(NAME)

    def test_another_server_adopts_a_process_and_reads_its_result(self, driver: ProcessorDriver) -> None:
        driver.processor().start(NAME, driver.request())
        assert driver.processor().poll(NAME) is None
        driver.processor().start(NAME, driver.request())
        driver.finish()
        assert result_of(driver.processor()).accepted
        driver.processor().start(NAME, driver.request())
        assert result_of(driver.processor()).accepted
        assert driver.starts() == 1

    def test_a_failed_start_leaves_nothing_begun_and_is_repeated(self, driver: ProcessorDriver) -> None:
        driver.fail_starts(fail=True)
        for _ in range(2):
            with pytest.raises((OSError, UnavailableError)):
                driver.processor().start(NAME, driver.request())
            with pytest.raises(NotFoundError):
                driver.processor().poll(NAME)
        driver.fail_starts(fail=False)
        driver.processor().start(NAME, driver.request())
        driver.finish()
        assert result_of(driver.processor()).accepted

    def test_a_killed_process_has_failed_until_it_is_deleted_and_started_again(self, driver: ProcessorDriver) -> None:
        processor = driver.processor()
        processor.start(NAME, driver.request())
        driver.crash()
        with pytest.raises(TaskFailedError, match="killed by signal 9"):
            result_of(processor)
        processor.start(NAME, driver.request())
        with pytest.raises(TaskFailedError):
            processor.poll(NAME)
        processor.delete(NAME)
        with pytest.raises(NotFoundError):
            processor.poll(NAME)
        processor.start(NAME, driver.request())
        driver.finish()
        assert result_of(processor).accepted

    def test_a_process_interrupted_by_a_machine_restart_is_started_again(self, driver: ProcessorDriver) -> None:
        driver.processor().start(NAME, driver.request())
        driver.restart_machine()
        with pytest.raises(NotFoundError):
            driver.processor().poll(NAME)
        driver.processor().start(NAME, driver.request())
        driver.finish()
        assert result_of(driver.processor()).accepted

    def test_the_result_of_a_deleted_process_is_gone(self, driver: ProcessorDriver) -> None:
        processor = driver.processor()
        processor.start(NAME, driver.request())
        driver.finish()
        assert result_of(processor).accepted
        processor.delete(NAME)
        with pytest.raises(NotFoundError):
            processor.poll(NAME)
        with pytest.raises(NotFoundError):
            driver.processor().poll(NAME)

    def test_a_result_survives_a_machine_restart(self, driver: ProcessorDriver) -> None:
        driver.processor().start(NAME, driver.request())
        driver.finish()
        result = result_of(driver.processor())
        driver.restart_machine()
        assert driver.processor().poll(NAME) == result
        driver.processor().start(NAME, driver.request())
        assert driver.processor().poll(NAME) == result
        assert driver.starts() == 1
