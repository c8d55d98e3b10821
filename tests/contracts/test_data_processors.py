"""Runs the data processor contract on the in-memory processor and on real child processes."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.contracts.data_processor import NAME, DataProcessorContract, ProcessorDriver
from tests.factories.processes import Forks, record_of, restart_machine
from tests.fakes.backends import MemoryProcessor

from windlass.domain.datasets import DataRequest
from windlass.domain.errors import UnavailableError
from windlass.domain.ingest import IngestOptions
from windlass.domain.specs import Task
from windlass.orchestration.data_process import EmbeddedDataProcessor
from windlass.ports import DataProcessor


def request(folder: Path) -> DataRequest:
    """A request that waits until the pipe ``folder/tokenizer`` is replaced by a file."""
    return DataRequest(
        operation="ingest",
        task=Task.TEXT_CLASSIFICATION,
        options=IngestOptions(),
        inputs=(((folder / "upload").as_uri(), None),),
        names=("rows.csv",),
        output=(folder / "out").as_uri(),
        tokenizer=(folder / "tokenizer").as_uri(),
    )


@dataclass
class InMemoryProcessorDriver:
    """Sets the result directly."""

    root: Path
    memory: MemoryProcessor = field(default_factory=MemoryProcessor)

    def processor(self) -> DataProcessor:
        return self.memory

    def request(self) -> DataRequest:
        return request(self.root)

    def finish(self) -> None:
        self.memory.finish(NAME)

    def crash(self) -> None:
        self.memory.crash(NAME)

    def restart_machine(self) -> None:
        self.memory.interrupt(NAME)

    def fail_starts(self, *, fail: bool) -> None:
        self.memory.start_error = UnavailableError("cannot start python: try again") if fail else None

    def starts(self) -> int:
        return self.memory.starts[NAME]


@dataclass
class ChildProcessDriver:
    """A real child process, which blocks on a named pipe."""

    root: Path
    forks: Forks

    def __post_init__(self) -> None:
        (self.root / "upload").write_bytes(b"text,label\nx,a\ny,b\n")
        os.mkfifo(self.root / "tokenizer")

    def processor(self) -> DataProcessor:
        return EmbeddedDataProcessor(self.root / "processes")

    def request(self) -> DataRequest:
        return request(self.root)

    def finish(self) -> None:
        (self.root / "tokenizer").write_text("none")

    def crash(self) -> None:
        os.kill(record_of(self.root / "processes" / NAME).pid or 0, signal.SIGKILL)

    def restart_machine(self) -> None:
        restart_machine(self.root / "processes" / NAME)

    def fail_starts(self, *, fail: bool) -> None:
        self.forks.fail = fail

    def starts(self) -> int:
        return self.forks.count


class TestMemoryProcessor(DataProcessorContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> ProcessorDriver:
        return InMemoryProcessorDriver(tmp_path)


@pytest.mark.processes
class TestEmbeddedDataProcessor(DataProcessorContract):
    @pytest.fixture
    def driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessorDriver]:
        started = ChildProcessDriver(tmp_path, Forks(monkeypatch))
        yield started
        started.processor().delete(NAME)

    def test_a_process_that_runs_has_no_problem(self, driver: ProcessorDriver) -> None:
        driver.processor().start(NAME, driver.request())
        assert driver.processor().problem(NAME) == ""
