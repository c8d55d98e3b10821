"""Pipeline runs as local processes: one child per run, identified by its folder."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.errors import InvalidError
from windlass.orchestration import processes
from windlass.orchestration.run_result import RunResult
from windlass.orchestration.supervisor import ProcessState, SupervisedProcess
from windlass.ports import BackendRun, BackendState
from windlass.runtime.context import CONTEXT_NAME, RunContext, RunEnvironment

_MODULE = "windlass_pipelines.run"
RUN_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class LocalPipelineBackend:
    """Implements ``ports.PipelineBackend``; runs the pipeline in a child process and does not import it.

    The folder of a run, ``<root>/<run_name>``, is also the workspace of its processes. It contains ``context.json``
    (0600: it has the run token), ``process.json`` and ``run.log``.

    Args:
        root: parent of the run folders.
        python: interpreter with the ``pipelines`` extra.
        environment: returns extra variables for the processes of a run, e.g. to join Ray; called for each run.
    """

    def __init__(self, root: Path, python: str, environment: Callable[[], Mapping[str, str]] = dict) -> None:
        self._root = root
        self._python = python
        self._environment = environment

    def submit(self, context: RunContext) -> bool:
        """Start the run; a no-op, and False, when a run with this name exists.

        Raises:
            UnavailableError: the process cannot be started, or Ray is not ready; ``submit`` can be retried.
        """
        with self._process(context.identity.name).locked() as process:
            if process.record is not None:
                return False
            workspace = process.folder.resolve()
            run = RunEnvironment(context, workspace / CONTEXT_NAME, workspace)
            extra = {**self._environment(), **run.variables()}
            context.write(run.context_file)
            process.start([self._python, "-m", _MODULE], processes.clean_environment(extra))
            return True

    def update_api_url(self, api_url: str, run_names: Iterable[str]) -> None:
        """Write the URL of the control plane to the context of these runs; they read it again when a request fails."""
        for name in run_names:
            try:
                with self._process(name).locked() as process:
                    path = process.folder / CONTEXT_NAME
                    context = RunContext.model_validate_json(path.read_bytes())
                    if context.api_url != api_url:
                        context.model_copy(update={"api_url": api_url}).write(path)
            except (OSError, ValidationError):
                continue  # never started, or corrupted: the reconciler handles that run; update the others

    def poll(self, run_name: str) -> BackendRun:
        """Return the state: ``lost`` when the process exited without a result, ``unknown`` when never submitted."""
        with self._process(run_name).existing() as process:
            state = process.state() if process else ProcessState.ABSENT
            if process is None or state is ProcessState.ABSENT:
                return BackendRun(name=run_name, state=BackendState.UNKNOWN)
            if state is ProcessState.RUNNING:
                return BackendRun(name=run_name, state=BackendState.RUNNING)
            process.kill()  # children that outlive it
            try:
                result = RunResult.load(process.folder)
            except ValidationError as error:
                message = f"the result of the run cannot be read: {error.error_count()} validation errors"
                return BackendRun(name=run_name, state=BackendState.LOST, message=message)
            if result is None:
                message = f"the run process {process.exit_reason()}"
                if not process.log.exists():
                    message = "the run process never started"
                return BackendRun(name=run_name, state=BackendState.LOST, message=message)
            return BackendRun(
                name=run_name, state=BackendState(result.state), message=result.message, reason=result.reason
            )

    def pause(self, run_name: str) -> None:
        """Do nothing: a run is opened when its resources are free."""

    def resume(self, run_name: str) -> None:
        """Do nothing: no run is paused."""

    def kill(self, run_name: str) -> None:
        """Kill every process of the run; return when they have exited. A no-op when there is none."""
        with self._process(run_name).existing() as process:
            if process is not None:
                process.kill()

    def _process(self, run_name: str) -> SupervisedProcess:
        return run_process(self._root, run_name)


def run_process(root: Path, run_name: str) -> SupervisedProcess:
    """Return the process of a run below the root folder of the runs."""
    if not RUN_NAME.fullmatch(run_name):
        raise InvalidError.field("/run_name", f"invalid run name {run_name!r}")
    return SupervisedProcess(root / run_name, log_name="run.log")
