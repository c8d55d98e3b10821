"""Runs the model importer contract on the in-memory importer and on real child processes."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.contracts.model_importer import NAME, ImporterDriver, ModelImporterContract
from tests.factories.processes import Forks, record_of, restart_machine
from tests.fakes.backends import MemoryImporter

from windlass.domain.errors import InvalidError, UnavailableError
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.orchestration.model_import import EmbeddedModelImporter
from windlass.ports import ModelImporter

IMPORT_PROGRAM = f"""#!{sys.executable}
import json, sys, time
from pathlib import Path

_, module, request, _, work = sys.argv[1:]
source = json.loads(Path(request).read_text())["path"]
while not (Path(source) / "result").exists():
    time.sleep(0.01)
(Path(source) / "result").rename(Path(work) / "result.json")
"""
"""Has the command line of the import program, and ends when its source holds its result."""


IMPORTED = {"tasks": ["chat"], "parameters": 7, "bytes": 70, "digest": "0" * 64}


def request(folder: Path) -> ImportRequest:
    """A request to import ``folder/source``."""
    return ImportRequest(path=str(folder / "source"), target=(folder / "target").as_uri())


@dataclass
class InMemoryImporterDriver:
    """Sets the result directly."""

    root: Path
    memory: MemoryImporter = field(default_factory=MemoryImporter)

    def request(self) -> ImportRequest:
        return request(self.root)

    def importer(self) -> ModelImporter:
        return self.memory

    def finish(self, refused: str | None = None) -> None:
        model = ImportedModel.model_validate(IMPORTED)
        self.memory.results[NAME] = InvalidError(refused) if refused else model

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
    """A real child process of the adapter, with a program that needs no model."""

    root: Path
    forks: Forks

    def __post_init__(self) -> None:
        self.source = self.root / "source"
        self.source.mkdir()
        self.program = self.root / "python"
        self.program.write_text(IMPORT_PROGRAM)
        self.program.chmod(0o700)

    def request(self) -> ImportRequest:
        return request(self.root)

    def importer(self) -> ModelImporter:
        return EmbeddedModelImporter(self.root / "imports", str(self.program))

    def finish(self, refused: str | None = None) -> None:
        result = {"refused": refused} if refused else IMPORTED
        draft = self.source / "draft"
        draft.write_text(json.dumps(result))
        draft.rename(self.source / "result")

    def crash(self) -> None:
        os.kill(record_of(self.root / "imports" / NAME).pid or 0, signal.SIGKILL)

    def restart_machine(self) -> None:
        restart_machine(self.root / "imports" / NAME)

    def fail_starts(self, *, fail: bool) -> None:
        self.forks.fail = fail

    def starts(self) -> int:
        return self.forks.count


class TestMemoryImporter(ModelImporterContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> ImporterDriver:
        (tmp_path / "source").mkdir()
        return InMemoryImporterDriver(tmp_path)


@pytest.mark.processes
class TestEmbeddedModelImporter(ModelImporterContract):
    @pytest.fixture
    def driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImporterDriver]:
        started = ChildProcessDriver(tmp_path, Forks(monkeypatch))
        yield started
        started.importer().delete(NAME)

    def test_a_process_that_runs_has_no_problem(self, driver: ImporterDriver) -> None:
        driver.importer().start(NAME, driver.request())
        assert driver.importer().problem(NAME) == ""
