"""ModelImporter of the embedded mode: a child process without secrets checks and converts the files of a base model."""

from pathlib import Path

from windlass.domain.errors import InvalidError, NotFoundError
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.kit.files import write_atomic
from windlass.orchestration import processes
from windlass.orchestration.supervisor import LockedProcess, ProcessState, SupervisedProcess
from windlass.orchestration.task_result import RESULT_NAME, parse_import_result, read_result
from windlass.ports import TaskFailedError

_MODULE = "windlass_pipelines.train.import_model"
_REQUEST_NAME = "request.json"
_QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class EmbeddedModelImporter:
    """Runs ``python -m windlass_pipelines.train.import_model REQUEST.json --work FOLDER``.

    The child writes ``FOLDER/result.json`` at the end: an ``ImportedModel``, or ``{"refused": "why"}``.
    """

    def __init__(self, root: Path, python: str) -> None:
        self._root, self._python = root, python

    def check_source(self, source: Path) -> None:
        if not source.exists():
            raise InvalidError.field(
                "/path",
                f"there is no {source} on the server's disk",
                hint="give a folder with safetensors weights, or a GGUF file, on the machine that runs the server",
            )

    def start(self, name: str, request: ImportRequest) -> None:
        with SupervisedProcess(self._root / name).locked() as process:
            result = process.folder / RESULT_NAME
            if process.has_begun(result):
                return
            result.unlink(missing_ok=True)
            path = process.folder / _REQUEST_NAME
            write_atomic(path, request.model_dump_json())
            argv = [self._python, "-m", _MODULE, str(path), "--work", str(process.folder)]
            process.start(argv, processes.clean_environment(_QUIET))

    def poll(self, name: str) -> ImportedModel | None:
        with SupervisedProcess(self._root / name).existing() as process:
            state = process.state() if process else ProcessState.ABSENT
            if process is None or state is ProcessState.ABSENT:
                raise NotFoundError(f"no import {name}")
            result = _read_result(process)
            if result is not None:
                return result
            if state is ProcessState.RUNNING:
                return None
            if state is ProcessState.INTERRUPTED:
                raise NotFoundError(f"the import {name} was interrupted")
            raise TaskFailedError(f"the import process {process.exit_reason()}")

    def problem(self, name: str) -> str:
        """Return nothing: a process of this machine runs at once."""
        del name
        return ""

    def delete(self, name: str) -> None:
        with SupervisedProcess(self._root / name).existing() as process:
            if process is not None:
                process.delete()


def _read_result(process: LockedProcess) -> ImportedModel | None:
    try:
        with (process.folder / RESULT_NAME).open("rb") as stream:
            return parse_import_result(read_result(stream))
    except FileNotFoundError:
        return None
