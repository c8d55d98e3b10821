"""Routes for the processes of a run, authenticated with the run's token: attempts, reports, steps, registration."""

from typing import Annotated

from fastapi import Depends, Path, Request

from windlass.domain.errors import NotFoundError
from windlass.domain.ids import Number
from windlass.domain.reports import AcquireAttemptReply, AcquireAttemptRequest, ReportBatch, ReportReply
from windlass.services.registration import Registration
from windlass.services.runs import Runs
from windlass.wire.runs import (
    RUNS_PATH,
    DeployedEndpointOut,
    RegisteredModelOut,
    RunStatusOut,
    StepLogIn,
    StepStatusIn,
)
from windlass_api import routing
from windlass_api.dependencies import get_app_context
from windlass_api.parameters import RunId

router = routing.router(prefix=RUNS_PATH + "/{run}", include_in_schema=False)

StepName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


def get_runs_service(run: RunId, request: Request) -> Runs:
    """Return the service of the run whose token was authenticated.

    Raises:
        NotFoundError: the request was not authenticated with a token of this run.
    """
    if request.scope.get("windlass.run") != run:
        raise NotFoundError(f"no run {run}")  # not a valid run id, so the middleware required an API key
    app_context = get_app_context(request)
    return Runs(app_context.deps, run, app_context.heartbeat_timeout)


CurrentRun = Annotated[Runs, Depends(get_runs_service)]


@router.get("")
def get_run(run: RunId, runs: CurrentRun) -> RunStatusOut:
    """Get the status of the run."""
    status = runs.get_run()
    attempt, checkpoint = status.attempt, status.checkpoint
    return RunStatusOut(
        job=status.job.id,
        state=status.job.state,
        command=status.command,
        attempt=attempt.number if attempt else None,
        result=attempt.result if attempt else None,
        checkpoint=checkpoint.step if checkpoint else None,
        lost_attempts=status.lost_attempts,
        attempt_seconds=status.attempt_seconds,
    )


@router.post("/attempts:acquire")
def acquire_attempt(run: RunId, body: AcquireAttemptRequest, runs: CurrentRun) -> AcquireAttemptReply:
    """Acquire the next attempt for a trainer."""
    return runs.acquire_attempt(body.trainer)


@router.post("/attempts/{number}/reports")
def report(run: RunId, number: Number, body: ReportBatch, runs: CurrentRun) -> ReportReply:
    """Accept a batch of reports of an attempt."""
    return runs.report(number, body)


@router.post("/attempts/{number}:lost", status_code=204)
def report_attempt_lost(run: RunId, number: Number, runs: CurrentRun) -> None:
    """Close an attempt whose trainer has exited."""
    runs.report_attempt_lost(number)


@router.put("/steps/{step}", status_code=204)
def put_step(run: RunId, step: StepName, body: StepStatusIn, runs: CurrentRun) -> None:
    """Set the status of a step."""
    runs.report_step(step, body.state, body.message)


@router.post("/steps/{step}/logs", status_code=204)
def add_step_log(run: RunId, step: StepName, body: StepLogIn, runs: CurrentRun) -> None:
    """Append a chunk to the job's log."""
    runs.append_step_log(step, body.producer, body.sequence, body.items)


@router.post("/register")
def register(run: RunId, runs: CurrentRun) -> RegisteredModelOut:
    """Register the run's result as a model version."""
    version, model = Registration(runs.deps, runs.run).register()
    reason = version.reason.message if version.reason else ""
    return RegisteredModelOut(
        model_version=version.id, model=model, number=version.number, decision=version.decision, reason=reason
    )


@router.post("/deploy")
def deploy(run: RunId, runs: CurrentRun) -> DeployedEndpointOut:
    """Set the job's endpoint to serve its model version."""
    return DeployedEndpointOut(endpoint=Registration(runs.deps, runs.run).deploy())
