"""`python -m windlass_pipelines.run`: runs the pipeline of one run with kfp.local.

kfp.local keeps its configuration in a singleton and patches ``print`` and the root logger, so one process runs one
pipeline. kfp writes only inside the run's workspace.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kfp import local

from windlass.domain.errors import WindlassError
from windlass.orchestration.run_result import TERMINATION_LOG_VARIABLE, RunResult
from windlass.runtime.client import RunApiClient
from windlass.runtime.context import RunContext, RunEnvironment
from windlass_pipelines.definitions.fine_tune import fine_tune
from windlass_pipelines.steps.launchers import new_launcher, trainers_outlive_run
from windlass_pipelines.steps.progress import LOST, STOPPED, StepStatus, read_statuses
from windlass_pipelines.steps.settings import StepSettings

_IMAGE = "python"
"""Steps run as processes and use no image; kfp warns when the image name does not contain ``python``."""

_REPORT_TIMEOUT_SECONDS = 10.0
_NO_STATUS = "its process ended without reporting a status"


class _SigtermFlag:
    """A SIGTERM handler that forwards the first signal to the steps in this process group."""

    def __init__(self) -> None:
        self.received = False

    def __call__(self, _number: int, _frame: Any) -> None:
        if not self.received:
            self.received = True
            os.killpg(os.getpgrp(), signal.SIGTERM)


def main() -> int:
    """Run the pipeline and write ``run.json``; returns 1 when the run failed or was lost.

    In a pod the result is also the termination message, and the exit code is then always 0: Kubernetes replaces a pod
    that has failed.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    sigterm_flag = _SigtermFlag()
    if not trainers_outlive_run():
        signal.signal(signal.SIGTERM, sigterm_flag)
    environment = RunEnvironment.load()
    error = ""
    with _kfp_sandbox(environment.workspace) as sandbox:
        try:
            _run_pipeline(environment.context, sandbox)
        except Exception as raised:  # noqa: BLE001 - any error of kfp fails the run
            error = f"{type(raised).__name__}: {raised}"
    # of a step that was killed: an ended run has no processes
    new_launcher(environment, StepSettings.load()).kill(environment.context.identity.name)
    statuses = read_statuses(environment.workspace)
    result = run_result(statuses, error=error, terminated=sigterm_flag.received)
    result.save(environment.workspace)
    _report_missing_steps(environment, statuses)
    if TERMINATION_LOG_VARIABLE in os.environ:
        Path(os.environ[TERMINATION_LOG_VARIABLE]).write_text(result.termination_message(), encoding="utf-8")
        return 0
    return 1 if result.state in {"failed", "lost"} else 0


def run_result(statuses: Mapping[str, StepStatus], *, error: str, terminated: bool) -> RunResult:
    """Derive the run's result from the statuses of its steps.

    Args:
        statuses: of the steps that started, by name.
        error: the error that kfp raised, or empty.
        terminated: whether SIGTERM was received.
    """
    if not error and "register" in statuses and all(status.state == "succeeded" for status in statuses.values()):
        return RunResult(state="succeeded")
    if terminated or any(status.outcome == STOPPED for status in statuses.values()):
        return RunResult(state="stopped")
    for name, status in statuses.items():
        if status.outcome == LOST:
            return RunResult(state="lost", message=f"{name}: {status.message}")
        if status.state == "failed":
            return RunResult(state="failed", message=f"{name}: {status.message}", reason=status.reason)
        if status.state == "running":
            return RunResult(state="failed", message=f"{name}: {_NO_STATUS}")
    return RunResult(state="failed", message=error or "the pipeline ended before its steps completed")


def _run_pipeline(context: RunContext, sandbox: Path) -> None:
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(sandbox / "outputs"),
        workspace_root=str(sandbox / "workspace"),  # kfp deletes it
        raise_on_error=True,
        enable_caching=False,
    )
    fine_tune(_IMAGE)(deploy=context.spec.deploy is not None)


@contextmanager
def _kfp_sandbox(workspace: Path) -> Iterator[Path]:
    """Yield a temporary folder for kfp's files, in which ``python3`` runs this interpreter; restore all on exit.

    kfp replaces the word python3 in a step's whole command line, including arguments and paths, with the unquoted
    ``sys.executable``. So ``sys.executable`` is set to ``python3``, a script that is first in ``PATH``.
    """
    sandbox = workspace / "kfp"
    shutil.rmtree(sandbox, ignore_errors=True)
    (sandbox / "bin").mkdir(parents=True)
    (sandbox / "tmp").mkdir()
    program = sandbox / "bin" / "python3"
    executable, environment = sys.executable, dict(os.environ)
    quoted = executable.replace("'", "'\\''")
    program.write_text(f"#!/bin/sh\nexec '{quoted}' \"$@\"\n", encoding="utf-8")
    program.chmod(0o700)
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    os.environ["TMPDIR"] = str(sandbox / "tmp")  # kfp does not delete the temporary folder of each step
    sys.executable = "python3"
    try:
        yield sandbox
    finally:
        sys.executable = executable
        os.environ.clear()
        os.environ.update(environment)
        shutil.rmtree(sandbox, ignore_errors=True)


def _report_missing_steps(environment: RunEnvironment, statuses: Mapping[str, StepStatus]) -> None:
    """Report killed steps as failed, best effort: ``run.json`` records the failure too."""
    missing = [name for name, status in statuses.items() if status.state == "running"]
    with RunApiClient(environment, retry_seconds=_REPORT_TIMEOUT_SECONDS) as client, suppress(WindlassError):
        for name in missing:
            client.set_step_state(name, "failed", _NO_STATUS)


if __name__ == "__main__":
    sys.exit(main())
