"""ModelImporter of the embedded mode: a child process without secrets checks and converts the files of a base model."""

from pathlib import Path

from windlass.domain.errors import InvalidError
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.orchestration import processes
from windlass.orchestration.task_processes import TaskProcesses, TransferAccess
from windlass.orchestration.task_result import parse_import_result

_MODULE = "windlass_pipelines.train.import_model"
_QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class EmbeddedModelImporter:
    """Runs ``python -m windlass_pipelines.train.import_model REQUEST.json --work FOLDER``.

    The child writes ``FOLDER/result.json`` at the end: an ``ImportedModel``, or ``{"refused": "why"}``.
    """

    def __init__(self, root: Path, python: str, access: TransferAccess[ImportRequest] | None = None) -> None:
        self._tasks = TaskProcesses(
            root, "import process", lambda path: [python, "-m", _MODULE, str(path), "--work", str(path.parent)], access
        )

    def check_source(self, source: Path) -> None:
        if not source.exists():
            raise InvalidError.field(
                "/path",
                f"there is no {source} on the server's disk",
                hint="give a folder with safetensors weights, or a GGUF file, on the machine that runs the server",
            )

    def start(self, name: str, request: ImportRequest) -> None:
        self._tasks.start(name, request, processes.clean_environment(_QUIET))

    def poll(self, name: str) -> ImportedModel | None:
        result = self._tasks.poll(name)
        return None if result is None else parse_import_result(result)

    def problem(self, name: str) -> str:
        """Return nothing: a process of this machine runs at once."""
        del name
        return ""

    def delete(self, name: str) -> None:
        self._tasks.delete(name)
