"""DataProcessor of the embedded mode: one child process per request, in its own session, without secrets.

The folder of a request contains ``request.json``, ``process.json``, ``log``, ``lock`` and the process's own files. The
process publishes the version and then writes ``result.json`` here.
"""

import sys
from pathlib import Path

from windlass.domain.artifacts import check_relative_path
from windlass.domain.datasets import DataRequest, DataResult
from windlass.domain.errors import InvalidError, NotFoundError
from windlass.kit.files import write_atomic
from windlass.orchestration import processes
from windlass.orchestration.supervisor import LockedProcess, ProcessState, SupervisedProcess
from windlass.orchestration.task_result import RESULT_NAME, parse_data_result, read_result
from windlass.ports import TaskFailedError

_MODULE = "windlass_pipelines.data"
_REQUEST_NAME = "request.json"


class EmbeddedDataProcessor:
    """Runs ``python -m windlass_pipelines.data`` under ``root``; ``python`` is an interpreter with that package."""

    def __init__(self, root: Path, python: str = sys.executable) -> None:
        self._root, self._python = root, python

    def start(self, name: str, request: DataRequest) -> None:
        """Start the process; a no-op when this or another server has started ``name`` before.

        Raises:
            UnavailableError, OSError: it cannot be started; ``start`` can be retried.
        """
        with self._process(name).locked() as process:
            result = process.folder / RESULT_NAME
            if process.has_begun(result):
                return
            result.unlink(missing_ok=True)  # before the record: a result beside a record is a result of its process
            path = process.folder / _REQUEST_NAME
            write_atomic(path, request.model_dump_json())
            process.start([self._python, "-P", "-m", _MODULE, str(path)], processes.sandbox_environment())

    def poll(self, name: str) -> DataResult | None:
        """Return the result, or None while it runs.

        Raises:
            NotFoundError: it was never started, is deleted, or was interrupted by a restart of the machine.
            TaskFailedError: the process died without a valid result; the text contains the end of its log.
        """
        with self._process(name).existing() as process:
            state = process.state() if process else ProcessState.ABSENT
            if process is None or state is ProcessState.ABSENT:
                raise NotFoundError(f"no data process {name}")
            result = _read_result(process)
            if result is not None:
                return result
            if state is ProcessState.RUNNING:
                return None
            if state is ProcessState.INTERRUPTED:
                raise NotFoundError(f"the data process {name} was interrupted")
            raise TaskFailedError(f"the data process {process.exit_reason()}")

    def problem(self, name: str) -> str:
        """Return nothing: a process of this machine runs at once."""
        del name
        return ""

    def delete(self, name: str) -> None:
        """Kill its process tree and delete its folder; what it published stays."""
        with self._process(name).existing() as process:
            if process is not None:
                process.delete()

    def _process(self, name: str) -> SupervisedProcess:
        try:
            check_relative_path(name)
        except ValueError:
            raise InvalidError(f"invalid data process name {name!r}") from None
        return SupervisedProcess(self._root / name.replace("/", "~"))


def _read_result(process: LockedProcess) -> DataResult | None:
    try:
        with (process.folder / RESULT_NAME).open("rb") as stream:
            return parse_data_result(read_result(stream))
    except FileNotFoundError:
        return None
