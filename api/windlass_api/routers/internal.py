"""Routes for the processes of a run: attempts, reports, steps, registration; and for the warm trainers of a cluster.

They are authenticated with the token of the run or of the warm trainer.
"""

import time
from functools import partial
from typing import Annotated

import anyio
from fastapi import Depends, Path, Request, Response

from windlass.domain.errors import NotFoundError
from windlass.domain.ids import Number
from windlass.domain.reports import AcquireAttemptReply, AcquireAttemptRequest, ReportBatch, ReportReply
from windlass.services.registration import Registration
from windlass.services.runs import Runs
from windlass.services.warm_trainers import assign_warm_trainer, assigned_run
from windlass.wire.runs import (
    RUNS_PATH,
    WARM_TRAINERS_PATH,
    DeployedEndpointOut,
    RegisteredModelOut,
    RunStatusOut,
    StepLogIn,
    StepStatusIn,
    WarmTrainerIn,
)
from windlass_api import routing
from windlass_api.concurrency import release_slot
from windlass_api.dependencies import get_app_context
from windlass_api.parameters import RunId

router = routing.router(prefix=RUNS_PATH + "/{run}", include_in_schema=False)
warm_trainers_router = routing.router(prefix=WARM_TRAINERS_PATH, include_in_schema=False)
_POLL_SECONDS = 0.1
_WAIT_SECONDS = 20.0
"""How long the request of a warm trainer waits for a run."""

StepName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


def get_runs_service(run: RunId, request: Request) -> Runs:
    """Return the service of the run whose token was authenticated.

    Raises:
        NotFoundError: the request was not authenticated with a token of this run.
    """
    if request.scope.get("windlass.run") != run:
        raise NotFoundError.hidden(f"no run {run}")  # not a valid run id, so the middleware required an API key
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


@router.put("/warm-trainer", status_code=204)
def put_warm_trainer(run: RunId, body: WarmTrainerIn, runs: CurrentRun) -> None:
    """Set the warm trainer that trains the run."""
    assign_warm_trainer(runs.deps, runs.run, body.name)


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


@warm_trainers_router.get("/{project}/{name}/run")
async def get_assigned_run(project: str, name: str, request: Request) -> Response:
    """Return the context of the run that a warm trainer trains; 204 when no run has claimed it within a while."""
    app_context = get_app_context(request)
    if request.scope.get("windlass.warm_trainer") != (project, name):
        raise NotFoundError(f"no warm trainer {name}")
    release_slot(request.scope)
    read = partial(assigned_run, app_context.deps, project, name, app_context.internal_url)
    hub, deadline = app_context.streams, time.monotonic() + _WAIT_SECONDS
    while (context := await hub.reads.read(("warm trainer", project, name), _POLL_SECONDS, read)) is None:
        if hub.closed or time.monotonic() > deadline or await request.is_disconnected():
            return Response(status_code=204)
        await anyio.sleep(_POLL_SECONDS)
    return Response(context.model_dump_json(), media_type="application/json")
