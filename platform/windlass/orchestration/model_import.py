"""The embedded ModelImporter: a child process without secrets checks and converts a base model's files."""

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from windlass.domain.artifacts import MANIFEST_NAME
from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError
from windlass.domain.models import ImportedModel
from windlass.domain.specs import Task
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord

_MODULE = "windlass_pipelines.train.import_model"
_LAST_WORDS = 2000


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True)
    source: Path
    target: Path


class EmbeddedModelImporter:
    """Runs ``python -m windlass_pipelines.train.import_model SOURCE TARGET --result FILE``.

    The child writes FILE when it is done: ``{"tasks": [...], "parameters": n}``, or ``{"refused": "why"}``.
    """

    def __init__(self, root: Path, python: str) -> None:
        self._root, self._python = root, python

    def start(self, name: str, source: Path, target: Path) -> None:
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True)
        record = processes.claim()
        try:
            record.save(folder / "process.json", exclusive=True)
        except FileExistsError:
            return
        (folder / "request.json").write_text(_Request(source=source, target=target).model_dump_json())
        argv = [self._python, "-m", _MODULE, str(source), str(target), "--result", str(folder / "result.json")]
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        started = processes.start(
            argv, environment=processes.clean_environment(quiet), log=folder / "log", record=record
        )
        started.save(folder / "process.json")

    def poll(self, name: str) -> ImportedModel | None:
        folder = self._root / name
        record = ProcessRecord.load(folder / "process.json")
        if record is None:
            raise NotFoundError(f"no import {name}")
        running = processes.alive(processes.find(record))
        result = folder / "result.json"
        if not result.exists():
            if running:
                return None
            words = (folder / "log").read_text(errors="replace")[-_LAST_WORDS:] if (folder / "log").exists() else ""
            raise UnavailableError(f"the import died: {words.strip() or 'it said nothing'}", hint="add the model again")
        try:
            found = _Result.model_validate_json(result.read_bytes())
        except ValidationError as error:
            raise UnavailableError(
                "the import left a result that cannot be read", hint="add the model again"
            ) from error
        if found.refused is not None:
            raise InvalidError(found.refused)
        request = _Request.model_validate_json((folder / "request.json").read_bytes())
        if not (request.target / MANIFEST_NAME).exists():
            raise UnavailableError("the import left no manifest", hint="add the model again")
        return ImportedModel(tasks=found.tasks, parameters=found.parameters)

    def forget(self, name: str) -> None:
        folder = self._root / name
        record = ProcessRecord.load(folder / "process.json")
        if record is not None:
            processes.kill(processes.find(record))
        shutil.rmtree(folder, ignore_errors=True)


class _Result(ImportedModel):
    tasks: tuple[Task, ...] = ()
    parameters: int = 0
    refused: str | None = None
