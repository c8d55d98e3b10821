"""Routes for the processes of a run, under the run's own token: the fence, reports, steps, registration."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field

from windlass.domain.errors import NotFoundError
from windlass.domain.ids import Number
from windlass.domain.jobs import JobState
from windlass.domain.reports import ClaimReply, ClaimRequest, Command, ReportBatch, ReportReply, ResultItem
from windlass.services.registration import Registration
from windlass.services.runs import Runs
from windlass.wire.base import In, Out
from windlass_api.dependencies import wiring_of

router = APIRouter(prefix="/internal/v1/runs/{run}", include_in_schema=False)

StepName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


def runs_of(run: str, request: Request) -> Runs:
    """Return the use cases of the run whose token the wall has checked.

    Raises:
        NotFoundError: the wall has checked no token of this run.
    """
    if request.scope.get("windlass.run") != run:
        raise NotFoundError(f"no run {run}")  # not an id of a run, so that the wall asked for an API key
    wiring = wiring_of(request)
    return Runs(wiring.backing, run, wiring.lease, wiring.up_since)


Mine = Annotated[Runs, Depends(runs_of)]


class RunLook(Out):
    """Where the run's job stands and what its processes should do."""

    job: str
    state: JobState
    command: Command
    result: ResultItem | None


class Lost(In):
    """Names the trainer that was seen to exit."""

    trainer: str = Field(min_length=1, max_length=200)


class StepIn(In):
    """Where a step stands."""

    state: Annotated[str, Field(pattern="^(running|succeeded|failed)$")]
    message: str = Field(default="", max_length=4000)


class StepLog(In):
    """A chunk of a step's own output."""

    sequence: Number
    text: str = Field(max_length=262_144)
    time: datetime


class Registered(Out):
    """What registration made, or had made before."""

    model_version: str
    model: str
    number: Number
    decision: str
    reason: str


class Deployed(Out):
    """The endpoint that was wished."""

    endpoint: str


@router.get("")
def look(run: str, runs: Mine) -> RunLook:
    """Where the run stands."""
    job, command, result = runs.look()
    return RunLook(job=job.id, state=job.state, command=command, result=result)


@router.post("/attempts:claim")
def claim(run: str, body: ClaimRequest, runs: Mine) -> ClaimReply:
    """Win the fence."""
    return runs.claim(body.trainer)


@router.post("/attempts/{number}/reports")
def report(run: str, number: Number, body: ReportBatch, runs: Mine) -> ReportReply:
    """Take a batch of an attempt."""
    return runs.report(number, body)


@router.post("/attempts/{number}:lost", status_code=204)
def lost(run: str, number: Number, body: Lost, runs: Mine) -> None:
    """Close an attempt whose trainer is gone."""
    runs.lost(number, body.trainer)


@router.put("/steps/{step}", status_code=204)
def put_step(run: str, step: StepName, body: StepIn, runs: Mine) -> None:
    """Record where a step stands."""
    runs.step(step, body.state, body.message)


@router.post("/steps/{step}/logs", status_code=204)
def add_step_log(run: str, step: StepName, body: StepLog, runs: Mine) -> None:
    """Append to the job's log."""
    runs.step_log(step, body.sequence, body.text, body.time)


@router.post("/register")
def register(run: str, runs: Mine) -> Registered:
    """Make the model version of the run's result."""
    version, model = Registration(runs.backing, runs.run).register()
    reason = version.reason.message if version.reason else ""
    return Registered(
        model_version=version.id, model=model, number=version.number, decision=version.decision.value, reason=reason
    )


@router.post("/deploy")
def deploy(run: str, runs: Mine) -> Deployed:
    """Wish that the job's endpoint serves its version."""
    return Deployed(endpoint=Registration(runs.backing, runs.run).deploy())
