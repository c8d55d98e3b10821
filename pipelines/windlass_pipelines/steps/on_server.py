"""The step of the pipeline on a Kubeflow Pipelines server: executes the pipeline of the run in its pod.

The pipeline runs in a process of its own, as in a runner pod. Its result is a line of the log of this step, because the
server stores only whether a step has failed.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

from windlass.domain.errors import WindlassError
from windlass.domain.reports import ResultStatus
from windlass.domain.training_report import HTML_NAME, REPORT_NAME, parse_report
from windlass.orchestration.run_result import RunResult
from windlass.runtime.client import RunApiClient
from windlass.runtime.context import RunEnvironment
from windlass.wire.runs import RunStatusOut
from windlass_pipelines.steps.launchers import delete_own_trainer, label_trainers
from windlass_pipelines.steps.server_step import RunArtifacts, TerminatedError, raise_on_sigterm

_PROGRAM = (sys.executable, "-m", "windlass_pipelines.run")
_REPORT_SECONDS = 60.0
"""How long the step retries to read the result of an ended run, for the artifacts of the server."""


class PipelineRunError(Exception):
    """The pipeline has not succeeded. It fails the step; the control plane reads the cause from the log."""


def run_pipeline(artifacts: RunArtifacts) -> None:
    """Run the pipeline of the run, print its result, and describe it in the artifacts.

    Raises:
        PipelineRunError: it has not succeeded.
    """
    environment = RunEnvironment.load()
    with _api_client(environment) as client:
        run = client.get_run()
    result = _known_result(run) or _run(environment)
    sys.stdout.write(f"\n{result.log_line()}\n")  # a process of the run may have left a line without an end
    sys.stdout.flush()
    if result.state != "succeeded":
        # on one line: its traceback follows in the log, and a line of a user's text could look like a result
        raise PipelineRunError(" ".join(f"the run has {result.state}: {result.message}".split()).rstrip(": "))
    with suppress(WindlassError), _api_client(environment) as client:  # the result is registered already
        describe(environment, client.get_run(), artifacts)


def _known_result(run: RunStatusOut) -> RunResult | None:
    """Return the result of a run that needs no pod any more; None if the pipeline must run.

    The server may repeat a step whose run has failed or was stopped.
    """
    outcome = None if run.result is None else run.result.outcome
    if run.result is not None and outcome is ResultStatus.FAILED:
        return RunResult(state="failed", message=f"train: {run.result.message}")
    if not run.should_continue and outcome is not ResultStatus.SUCCEEDED:
        return RunResult(state="stopped")
    return None


def _api_client(environment: RunEnvironment) -> RunApiClient:
    return RunApiClient(environment, retry_seconds=_REPORT_SECONDS)


def _run(environment: RunEnvironment) -> RunResult:
    """Execute the pipeline; on SIGTERM end it, and delete the trainer that this run has created."""
    label_trainers()
    with raise_on_sigterm():
        process = subprocess.Popen(_PROGRAM, env=_environment(), start_new_session=True)
        try:
            process.wait()
        except TerminatedError:
            os.killpg(process.pid, signal.SIGKILL)
            delete_own_trainer(environment)
            sys.exit(128 + signal.SIGTERM)
    result = RunResult.load(environment.workspace)
    if result is None:
        raise PipelineRunError(f"the process of the run ended without a result (exit code {process.returncode})")
    return result


def _environment() -> dict[str, str]:
    """Return the environment without the variable by which kfp loads only what the code of a step needs."""
    return {name: value for name, value in os.environ.items() if name != "_KFP_RUNTIME"}


def describe(environment: RunEnvironment, run: RunStatusOut, artifacts: RunArtifacts) -> None:
    """Fill the artifacts."""
    result, identity = run.result, environment.context.identity
    if run.attempt is None or result is None or result.manifest is None:
        return
    artifacts.add_metrics(result.evaluation or {})
    artifacts.model.uri = environment.context.locations.artifact(run.attempt)
    artifacts.model.metadata |= {
        "name": environment.context.spec.model,
        "sha256": result.manifest.digest(),
        "bytes": result.manifest.bytes,
        "windlass_project": identity.project,
        "windlass_job": identity.job,
    }
    folder = environment.workspace / "artifact"
    if (folder / HTML_NAME).exists():
        shutil.copyfile(folder / HTML_NAME, artifacts.report.path)
    if (folder / REPORT_NAME).exists():
        curves = parse_report((folder / REPORT_NAME).read_bytes()).curves
        artifacts.write_losses(environment.context.spec.model, curves)
