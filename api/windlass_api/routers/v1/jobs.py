"""Routes of base models and jobs."""

import math
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from windlass.domain.ids import MAX_INTEGER
from windlass.domain.jobs import JobState
from windlass.domain.projects import Permission
from windlass.domain.records import Event, MetricPoint
from windlass.services.base_models import BaseModels
from windlass.services.jobs import Jobs
from windlass.wire.base import Page
from windlass.wire.jobs import (
    BaseModelIn,
    BaseModelOut,
    CheckpointOut,
    EventOut,
    JobDetailOut,
    JobIn,
    JobOut,
    MetricSeriesOut,
    MetricsOut,
    SimulationOut,
)
from windlass_api.dependencies import CursorText, Limit, OnceRequired, Visit, inside, last_event, platform
from windlass_api.mapping import attempt_out, base_model_out, job_fields, job_out, run_out, simulation_out
from windlass_api.paging import counted, paged
from windlass_api.streams import follow_job, follow_log

router = APIRouter(prefix="/v1")

Read = Annotated[Visit, inside(Permission.JOBS_READ)]
Write = Annotated[Visit, inside(Permission.JOBS_WRITE)]
ModelsRead = Annotated[Visit, platform(Permission.BASE_MODELS_READ)]
ModelsWrite = Annotated[Visit, platform(Permission.BASE_MODELS_WRITE)]
Accept = Annotated[str, Header()]
_JOBS = "/projects/{project}/jobs"
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.get("/base-models", operation_id="listBaseModels", tags=["base models"])
def list_base_models(visit: ModelsRead, limit: Limit = 50, cursor: CursorText = None) -> Page[BaseModelOut]:
    """List the models that jobs may start from."""
    return paged(visit.platform(BaseModels).page, limit, cursor, lambda entry: entry.id, base_model_out)


@router.get("/base-models/{name}", operation_id="getBaseModel", tags=["base models"])
def get_base_model(name: str, visit: ModelsRead) -> BaseModelOut:
    """Show a base model."""
    return base_model_out(visit.platform(BaseModels).get(name))


@router.post("/base-models", status_code=202, operation_id="createBaseModel", tags=["base models"])
def create_base_model(body: BaseModelIn, response: Response, visit: ModelsWrite) -> BaseModelOut:
    """Add a base model from the server's disk: safetensors or GGUF; anything else is refused."""
    made = visit.platform(BaseModels).add(body.name, body.path, body.licence, body.source)
    response.headers["Location"] = f"/v1/base-models/{made.name}"
    return base_model_out(made)


@router.delete("/base-models/{name}", status_code=204, operation_id="deleteBaseModel", tags=["base models"])
def delete_base_model(name: str, visit: ModelsWrite) -> None:
    """Take a base model out of the catalogue."""
    visit.platform(BaseModels).delete(name)


@router.post(_JOBS, status_code=202, operation_id="createJob", tags=["jobs"])
def create_job(project: str, body: JobIn, response: Response, once: OnceRequired, visit: Write) -> JobOut:
    """Submit a job. The reply means that it survives any crash; the same key gives the same job."""
    visit.wiring.require_backends()
    made = visit.use(Jobs).submit(body.spec, once, visit.wiring.limits.unfinished_jobs)
    response.headers["Location"] = f"/v1/projects/{project}/jobs/{made.id}"
    return job_out(project, made)


@router.post(_JOBS + ":simulate", operation_id="simulateJob", tags=["jobs"])
def simulate_job(project: str, body: JobIn, visit: Write) -> SimulationOut:
    """Tell whether the job would start now, wait (for what), or never start (what would help); writes nothing."""
    jobs = visit.use(Jobs)
    simulation = jobs.simulate(body.spec)
    return simulation_out(simulation, jobs.mine(simulation.would_preempt))


@router.get(_JOBS, operation_id="listJobs", tags=["jobs"])
def list_jobs(
    project: str, visit: Read, limit: Limit = 50, cursor: CursorText = None, state: JobState | None = None
) -> Page[JobOut]:
    """List jobs, newest first."""
    jobs = visit.use(Jobs)
    return paged(
        lambda count, after: jobs.page(count, after, state),
        limit,
        cursor,
        lambda job: job.id,
        lambda job: job_out(project, job),
    )


@router.get(_JOBS + "/{job}", operation_id="getJob", tags=["jobs"])
def get_job(project: str, job: str, visit: Read) -> JobDetailOut:
    """Show a job with its runs, attempts and evaluation."""
    jobs = visit.use(Jobs)
    found = jobs.get(job)
    runs, attempts = jobs.lives(job)
    numbers = {run.id: run.number for run in runs}
    results = [attempt.result for attempt in attempts if attempt.result and attempt.result.evaluation]
    return JobDetailOut(
        runs=[run_out(run) for run in runs],
        attempts=[attempt_out(attempt, numbers) for attempt in attempts],
        evaluation=results[-1].evaluation if results else None,
        **job_fields(project, found),
    )


@router.post(_JOBS + "/{job}:cancel", operation_id="cancelJob", tags=["jobs"])
def cancel_job(project: str, job: str, visit: Write) -> JobOut:
    """Ask for the job's end; repeating it does no harm."""
    return job_out(project, visit.use(Jobs).cancel(job))


@router.post(_JOBS + "/{job}:retry", status_code=202, operation_id="retryJob", tags=["jobs"])
def retry_job(project: str, job: str, response: Response, once: OnceRequired, visit: Write) -> JobOut:
    """Submit an ended job's spec again, as a new job."""
    visit.wiring.require_backends()
    made = visit.use(Jobs).retry(job, once, visit.wiring.limits.unfinished_jobs)
    response.headers["Location"] = f"/v1/projects/{project}/jobs/{made.id}"
    return job_out(project, made)


@router.get(
    _JOBS + "/{job}/events",
    operation_id="listJobEvents",
    tags=["jobs"],
    responses=_STREAM,
    response_model=Page[EventOut],
)
def list_job_events(
    project: str,
    job: str,
    visit: Read,
    limit: Limit = 50,
    cursor: CursorText = None,
    accept: Accept = "application/json",
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None,
) -> Page[EventOut] | StreamingResponse:
    """A job's events, oldest first; with ``Accept: text/event-stream`` a live stream of events, metrics and states."""
    jobs = visit.use(Jobs)
    if "text/event-stream" in accept:
        jobs.get(job)
        return follow_job(jobs, project, job, last_event(last_event_id) or 0)
    return counted(
        lambda count, after: jobs.events(job, after or 0, count),
        limit,
        cursor,
        lambda event: event.sequence,
        _event_out,
    )


def _event_out(event: Event) -> EventOut:
    return EventOut(**event.model_dump(exclude={"project", "job"}))


@router.get(_JOBS + "/{job}/metrics", operation_id="getJobMetrics", tags=["jobs"])
def get_job_metrics(
    project: str,
    job: str,
    visit: Read,
    names: Annotated[str, Query(max_length=1000, description="comma-separated; default all")] = "",
    after: Annotated[int, Query(ge=-1, le=MAX_INTEGER, description="points beyond this step")] = -1,
) -> MetricsOut:
    """The numeric series of a job; each step once."""
    wanted = [name for name in names.split(",") if name]
    series: dict[str, list[MetricPoint]] = {}
    for point in visit.use(Jobs).metrics(job, wanted, after):
        series.setdefault(point.name, []).append(point)
    return MetricsOut(
        series=[
            MetricSeriesOut(
                name=name,
                steps=[point.step for point in points],
                values=[point.value if math.isfinite(point.value) else None for point in points],
            )
            for name, points in series.items()
        ]
    )


@router.get(
    _JOBS + "/{job}/logs",
    operation_id="getJobLogs",
    tags=["jobs"],
    response_class=PlainTextResponse,
    responses=_STREAM,
)
def get_job_logs(
    project: str,
    job: str,
    visit: Read,
    offset: Annotated[int, Query(ge=0, le=1 << 40, description="bytes to skip")] = 0,
    limit: Annotated[int, Query(ge=4, le=1 << 20, description="bytes at most")] = 1 << 18,
    accept: Accept = "text/plain",
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None,
) -> Response:
    """A job's log from a byte offset on; with ``Accept: text/event-stream`` it follows."""
    jobs = visit.use(Jobs)
    if "text/event-stream" in accept:
        jobs.get(job)
        resumed = last_event(last_event_id)
        return follow_log(jobs, job, offset if resumed is None else resumed)
    text, following, ended = jobs.log(job, offset, limit)
    headers = {"Windlass-Next-Offset": str(following), "Windlass-Log-End": str(ended).lower()}
    return PlainTextResponse(text, headers=headers)


@router.get(_JOBS + "/{job}/checkpoints", operation_id="listJobCheckpoints", tags=["jobs"])
def list_job_checkpoints(
    project: str, job: str, visit: Read, limit: Limit = 50, cursor: CursorText = None
) -> Page[CheckpointOut]:
    """Committed checkpoints by step."""
    jobs = visit.use(Jobs)
    return counted(
        lambda count, after: jobs.checkpoints(job, count, after),
        limit,
        cursor,
        lambda checkpoint: checkpoint.step,
        lambda checkpoint: CheckpointOut(
            bytes=checkpoint.manifest.bytes,
            **checkpoint.model_dump(include={"step", "attempt", "metrics", "created_at"}),
        ),
    )
