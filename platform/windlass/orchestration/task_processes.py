"""Tasks of the embedded mode: one child process per task, in its own session, without secrets.

The folder of a task contains ``request.json``, ``process.json``, ``log``, ``lock`` and the process's own files. The
process writes ``result.json`` there before it exits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from windlass.domain.artifacts import check_relative_path
from windlass.domain.errors import InvalidError, NotFoundError
from windlass.kit.files import write_atomic
from windlass.orchestration.supervisor import LockedProcess, ProcessState, SupervisedProcess
from windlass.orchestration.task_result import RESULT_NAME, read_result
from windlass.ports import TaskFailedError
from windlass.runtime.context import TRANSFER_TOKEN_VARIABLE, TRANSFER_URL_VARIABLE

R = TypeVar("R", bound=BaseModel)

_REQUEST_NAME, _TOKEN_NAME = "request.json", "token"


@dataclass(frozen=True)
class TransferAccess(Generic[R]):
    """How the process of a task gets its files from an object store that it cannot read by path.

    Args:
        api_url: URL of the control plane, which hands out presigned requests.
        token: returns the token of a task for its name and its request.
    """

    api_url: str
    token: Callable[[str, R], str]


@dataclass(frozen=True)
class TaskProcesses(Generic[R]):
    """The processes below ``root``. ``noun`` names one in errors; ``command`` gets the path of a task's request."""

    root: Path
    noun: str
    command: Callable[[Path], Sequence[str]]
    access: TransferAccess[R] | None = None
    """None: they read the object store by path."""

    def start(self, name: str, request: R, environment: Mapping[str, str]) -> None:
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
            if self.access is not None:
                token = process.folder / _TOKEN_NAME
                write_atomic(token, self.access.token(name, request), mode=0o600)
                variables = {TRANSFER_URL_VARIABLE: self.access.api_url, TRANSFER_TOKEN_VARIABLE: str(token)}
                environment = {**environment, **variables}
            process.start(self.command(path), environment)

    def poll(self, name: str) -> bytes | None:
        """Return the result, or None while it runs.

        Raises:
            NotFoundError: it was never started, is deleted, or was interrupted by a restart of the machine.
            TaskFailedError: the process died without a result; the text contains the end of its log.
        """
        with self._process(name).existing() as process:
            state = process.state() if process else ProcessState.ABSENT
            if process is None or state is ProcessState.ABSENT:
                raise NotFoundError(f"no {self.noun} {name}")
            result = _read_result(process)
            if result is not None:
                return result
            if state is ProcessState.RUNNING:
                return None
            if state is ProcessState.INTERRUPTED:
                raise NotFoundError(f"the {self.noun} {name} was interrupted")
            raise TaskFailedError(f"the {self.noun} {process.exit_reason()}")

    def delete(self, name: str) -> None:
        """Kill its process tree and delete its folder; what it published stays."""
        with self._process(name).existing() as process:
            if process is not None:
                process.delete()

    def _process(self, name: str) -> SupervisedProcess:
        try:
            check_relative_path(name)
        except ValueError:
            raise InvalidError(f"invalid name of a {self.noun}: {name!r}") from None
        return SupervisedProcess(self.root / name.replace("/", "~"))


def _read_result(process: LockedProcess) -> bytes | None:
    try:
        with (process.folder / RESULT_NAME).open("rb") as stream:
            return read_result(stream)
    except FileNotFoundError:
        return None
