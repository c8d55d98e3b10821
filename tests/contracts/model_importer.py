"""The contract of every ``ports.ModelImporter``."""

import time
from pathlib import Path
from typing import Protocol

import pytest

from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.ports import ModelImporter, TaskFailedError

NAME = "bm_01"
_TIMEOUT_SECONDS = 60


class ImporterDriver(Protocol):
    """Controls the import of one model."""

    def request(self) -> ImportRequest:
        """A request that is processed until ``finish`` is called."""
        ...

    def importer(self) -> ModelImporter:
        """The importer of another server over the same state."""
        ...

    def finish(self, refused: str | None = None) -> None:
        """Let the import end: with a model, or refused."""
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


def imported_by(importer: ModelImporter) -> ImportedModel:
    """Wait for the result."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while (model := importer.poll(NAME)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return model


class ModelImporterContract:
    """Subclasses provide the fixture ``driver``."""

    def test_a_source_that_cannot_be_read_is_rejected_before_the_import(self, driver: ImporterDriver) -> None:
        importer = driver.importer()
        importer.check_source(Path(driver.request().path))  # raises nothing
        with pytest.raises(InvalidError) as rejected:
            importer.check_source(Path("/no-such-volume/model"))
        assert [problem.pointer for problem in rejected.value.fields] == ["/path"]

    def test_an_import_that_was_never_started_is_not_found(self, driver: ImporterDriver) -> None:
        with pytest.raises(NotFoundError):
            driver.importer().poll(NAME)
        driver.importer().delete(NAME)

    def test_another_server_adopts_an_import_and_reads_its_result(self, driver: ImporterDriver) -> None:
        driver.importer().start(NAME, driver.request())
        assert driver.importer().poll(NAME) is None
        driver.importer().start(NAME, driver.request())
        driver.finish()
        assert imported_by(driver.importer()).parameters == 7
        assert driver.starts() == 1

    def test_a_refused_model_is_invalid_with_the_reason(self, driver: ImporterDriver) -> None:
        driver.importer().start(NAME, driver.request())
        driver.finish(refused="weights.bin can contain code")
        with pytest.raises(InvalidError, match=r"weights\.bin can contain code"):
            imported_by(driver.importer())

    def test_a_failed_start_leaves_nothing_begun_and_is_repeated(self, driver: ImporterDriver) -> None:
        driver.fail_starts(fail=True)
        with pytest.raises((OSError, UnavailableError)):
            driver.importer().start(NAME, driver.request())
        with pytest.raises(NotFoundError):
            driver.importer().poll(NAME)
        driver.fail_starts(fail=False)
        driver.importer().start(NAME, driver.request())
        driver.finish()
        assert imported_by(driver.importer()).parameters == 7

    def test_a_killed_import_has_failed_and_can_be_deleted(self, driver: ImporterDriver) -> None:
        importer = driver.importer()
        importer.start(NAME, driver.request())
        driver.crash()
        with pytest.raises(TaskFailedError, match="killed by signal 9"):
            imported_by(importer)
        importer.delete(NAME)
        with pytest.raises(NotFoundError):
            importer.poll(NAME)

    def test_an_import_interrupted_by_a_machine_restart_is_started_again(self, driver: ImporterDriver) -> None:
        driver.importer().start(NAME, driver.request())
        driver.restart_machine()
        with pytest.raises(NotFoundError):
            driver.importer().poll(NAME)
        driver.importer().start(NAME, driver.request())
        driver.finish()
        assert imported_by(driver.importer()).parameters == 7
        assert driver.starts() == 2
