"""DataProcessor of the embedded mode: a child process per request, which publishes the version."""

import sys
from pathlib import Path

from windlass.domain.datasets import DataRequest, DataResult
from windlass.orchestration import processes
from windlass.orchestration.task_processes import TaskProcesses, TransferAccess
from windlass.orchestration.task_result import parse_data_result

_MODULE = "windlass_pipelines.data"


class EmbeddedDataProcessor:
    """Runs ``python -m windlass_pipelines.data`` under ``root``; ``python`` is an interpreter with that package.

    ``access``: how it gets files from an object store that it cannot read by path.
    """

    def __init__(
        self, root: Path, python: str = sys.executable, access: TransferAccess[DataRequest] | None = None
    ) -> None:
        self._tasks = TaskProcesses(root, "data process", lambda path: [python, "-P", "-m", _MODULE, str(path)], access)

    def start(self, name: str, request: DataRequest) -> None:
        """Start the process. Raises as ``TaskProcesses.start``."""
        self._tasks.start(name, request, processes.sandbox_environment())

    def poll(self, name: str) -> DataResult | None:
        """Return the result, or None while it runs.

        Raises:
            NotFoundError: as ``TaskProcesses.poll``.
            TaskFailedError: the process died without a valid result; the text contains the end of its log.
        """
        result = self._tasks.poll(name)
        return None if result is None else parse_data_result(result)

    def problem(self, name: str) -> str:
        """Return nothing: a process of this machine runs at once."""
        del name
        return ""

    def delete(self, name: str) -> None:
        """Kill its process tree and delete its folder; what it published stays."""
        self._tasks.delete(name)
