"""Routes of jobs."""

import math
from typing import Annotated, Any

from fastapi import Path, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import StringConstraints

from windlass.domain.ids import MAX_INTEGER
from windlass.domain.jobs import JobState
from windlass.domain.projects import Permission
from windlass.domain.records import Event
from windlass.domain.series import MIN_POINTS, StepRange
from windlass.domain.text import DisplayName, EventCode
from windlass.services.jobs import DEFAULT_POINTS, Jobs
from windlass.wire.base import DeletionOut, Page
from windlass.wire.jobs import (
    CheckpointOut,
    EventOut,
    JobDetailOut,
    JobIn,
    JobOut,
    MetricPointOut,
    MetricSeriesOut,
    MetricsOut,
    SimulationOut,
)
from windlass_api import routing
from windlass_api.dependencies import (
    RequestContext,
    RequiredIdempotencyKey,
    parse_last_event_id,
    require_project,
)
from windlass_api.mapping import attempt_out, deletion_out, job_fields, job_out, run_out, simulation_out
from windlass_api.paging import paginate, paginate_by_number
from windlass_api.parameters import Accept, CursorText, DryRun, JobId, LastEventId, Limit, ProjectName
from windlass_api.stream_hub import StreamCaller
from windlass_api.streams import stream_job, stream_log

router = routing.router(prefix="/v1")

Read = Annotated[RequestContext, require_project(Permission.JOBS_READ)]
Write = Annotated[RequestContext, require_project(Permission.JOBS_WRITE)]
_JOBS = "/projects/{project}/jobs"
_MAX_POINTS = 10_000
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.post(_JOBS, status_code=202, operation_id="createJob", tags=["jobs"])
def create_job(
    project: ProjectName, body: JobIn, response: Response, idempotency_key: RequiredIdempotencyKey, ctx: Write
) -> JobOut:
    """Submit a job. It is durable once the response is sent; the same idempotency key returns the same job."""
    created = ctx.project_service(Jobs).submit(body.spec, idempotency_key)
    response.headers["Location"] = f"/v1/projects/{project}/jobs/{created.id}"
    return job_out(project, created)


@router.post(_JOBS + ":simulate", operation_id="simulateJob", tags=["jobs"])
def simulate_job(project: ProjectName, body: JobIn, ctx: Write) -> SimulationOut:
    """Simulate a submission: would the job start now, wait (and why) or never start. Stores nothing."""
    jobs = ctx.project_service(Jobs)
    preview = jobs.preview(body.spec)
    return simulation_out(preview, jobs.own_job_ids(preview.simulation.would_preempt))


@router.get(_JOBS, operation_id="listJobs", tags=["jobs"])
def list_jobs(
    project: ProjectName,
    ctx: Read,
    limit: Limit = 50,
    cursor: CursorText = None,
    state: Annotated[JobState | None, Query(description="only jobs in this state")] = None,
    match: Annotated[
        DisplayName | None,
        Query(description="only jobs whose id begins with this, or else whose name it is; one page"),
    ] = None,
) -> Page[JobOut]:
    """List jobs, newest first."""
    jobs = ctx.project_service(Jobs)
    if match is not None:
        return Page(items=[job_out(project, job) for job in jobs.match(match, limit)])
    return paginate(
        lambda count, after: jobs.page(count, after, state),
        limit,
        cursor,
        lambda job: job.id,
        lambda job: job_out(project, job),
    )


@router.get(_JOBS + "/{job}", operation_id="getJob", tags=["jobs"])
def get_job(project: ProjectName, job: JobId, ctx: Read) -> JobDetailOut:
    """Get a job with its runs, attempts and evaluation."""
    item, runs, attempts = ctx.project_service(Jobs).with_runs(job)
    numbers = {run.id: run.number for run in runs}
    results = [attempt.result for attempt in attempts if attempt.result and attempt.result.evaluation]
    return JobDetailOut(
        runs=[run_out(run) for run in runs],
        attempts=[attempt_out(attempt, numbers) for attempt in attempts],
        evaluation=results[-1].evaluation if results else None,
        **job_fields(project, item),
    )


@router.post(_JOBS + "/{job}:cancel", operation_id="cancelJob", tags=["jobs"])
def cancel_job(project: ProjectName, job: JobId, ctx: Write) -> JobOut:
    """Cancel a job; idempotent."""
    return job_out(project, ctx.project_service(Jobs).cancel(job))


@router.delete(_JOBS + "/{job}", operation_id="deleteJob", tags=["jobs"])
def delete_job(project: ProjectName, job: JobId, ctx: Write, dry_run: DryRun = False) -> DeletionOut:
    """Delete an ended job with its events, metrics, log and files; a conflict while a model version comes from it."""
    return deletion_out(ctx.project_service(Jobs).delete(job, dry_run=dry_run))


@router.post(_JOBS + "/{job}:retry", status_code=202, operation_id="retryJob", tags=["jobs"])
def retry_job(
    project: ProjectName, job: JobId, response: Response, idempotency_key: RequiredIdempotencyKey, ctx: Write
) -> JobOut:
    """Submit the spec of an ended job as a new job."""
    created = ctx.project_service(Jobs).retry(job, idempotency_key)
    response.headers["Location"] = f"/v1/projects/{project}/jobs/{created.id}"
    return job_out(project, created)


@router.get(
    _JOBS + "/{job}/events",
    operation_id="listJobEvents",
    tags=["jobs"],
    responses=_STREAM,
    response_model=Page[EventOut],
)
def list_job_events(
    project: ProjectName,
    job: JobId,
    ctx: Read,
    limit: Limit = 50,
    cursor: CursorText = None,
    accept: Accept = "application/json",
    last_event_id: LastEventId = None,
) -> Page[EventOut] | StreamingResponse:
    """List a job's events, oldest first; ``Accept: text/event-stream`` streams events, metrics and states."""
    jobs = ctx.project_service(Jobs)
    if "text/event-stream" in accept:
        jobs.get(job)
        return stream_job(ctx.app.streams, _stream_caller(ctx), jobs, job, parse_last_event_id(last_event_id) or 0)
    return paginate_by_number(
        lambda count, after: jobs.events(job, after or 0, count),
        limit,
        cursor,
        lambda event: event.sequence,
        _event_out,
    )


def _stream_caller(ctx: RequestContext) -> StreamCaller:
    return StreamCaller(ctx.caller.principal, ctx.project.name, ctx.project.id, Permission.JOBS_READ)


def _event_out(event: Event) -> EventOut:
    return EventOut(**event.model_dump(exclude={"project", "job"}))


@router.get(_JOBS + "/{job}/metrics", operation_id="getJobMetrics", tags=["jobs"])
def get_job_metrics(
    project: ProjectName,
    job: JobId,
    ctx: Read,
    names: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9_,]{0,1000}$"), Query(description="comma-separated; default: all")
    ] = "",
    after: Annotated[int, Query(ge=-1, le=MAX_INTEGER, description="only points after this step")] = -1,
    through: Annotated[
        int, Query(ge=0, le=MAX_INTEGER, description="only points of this step or before")
    ] = MAX_INTEGER,
    points: Annotated[
        int, Query(ge=MIN_POINTS, le=_MAX_POINTS, description="maximum number of points per series")
    ] = DEFAULT_POINTS,
) -> MetricsOut:
    """Get the metrics of a job, each downsampled to ``points`` points that keep minima and maxima."""
    selected = [name for name in names.split(",") if name]
    return MetricsOut(
        series=[
            MetricSeriesOut(
                name=series.name,
                steps=list(series.steps),
                values=[_finite(value) for value in series.values],
                total=series.total,
            )
            for series in ctx.project_service(Jobs).metrics(job, selected, StepRange(after, through), points)
        ]
    )


@router.get(_JOBS + "/{job}/metrics/{name}", operation_id="listJobMetricPoints", tags=["jobs"])
def list_job_metric_points(
    project: ProjectName,
    job: JobId,
    name: Annotated[EventCode, Path(description="name of the metric")],
    ctx: Read,
    limit: Annotated[int, Query(ge=1, le=_MAX_POINTS, description="maximum number of points")] = 1000,
    cursor: CursorText = None,
) -> Page[MetricPointOut]:
    """List every stored point of one metric by step; each step appears once."""
    jobs = ctx.project_service(Jobs)
    return paginate_by_number(
        lambda count, after: jobs.metric_points(job, name, -1 if after is None else after, count),
        limit,
        cursor,
        lambda point: point.step,
        lambda point: MetricPointOut(step=point.step, value=_finite(point.value), attempt=point.attempt),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@router.get(
    _JOBS + "/{job}/logs",
    operation_id="getJobLogs",
    tags=["jobs"],
    response_class=PlainTextResponse,
    responses=_STREAM,
)
def get_job_logs(
    project: ProjectName,
    job: JobId,
    ctx: Read,
    offset: Annotated[int, Query(ge=0, le=1 << 40, description="bytes to skip")] = 0,
    limit: Annotated[int, Query(ge=4, le=1 << 20, description="maximum number of bytes")] = 1 << 18,
    tail: Annotated[int | None, Query(ge=0, le=MAX_INTEGER, description="only the last lines; not for streams")] = None,
    accept: Accept = "text/plain",
    last_event_id: LastEventId = None,
) -> Response:
    """Get a job's log from a byte offset; ``Accept: text/event-stream`` follows it."""
    jobs = ctx.project_service(Jobs)
    if "text/event-stream" in accept:
        jobs.get(job)
        last_offset = parse_last_event_id(last_event_id)
        start = offset if last_offset is None else last_offset
        return stream_log(ctx.app.streams, _stream_caller(ctx), jobs, job, start)
    if tail is not None:
        offset = max(offset, jobs.log_tail(job, tail))
    text, next_offset, ended = jobs.log(job, offset, limit)
    headers = {"Windlass-Next-Offset": str(next_offset), "Windlass-Log-End": str(ended).lower()}
    return PlainTextResponse(text, headers=headers)


@router.get(_JOBS + "/{job}/checkpoints", operation_id="listJobCheckpoints", tags=["jobs"])
def list_job_checkpoints(
    project: ProjectName, job: JobId, ctx: Read, limit: Limit = 50, cursor: CursorText = None
) -> Page[CheckpointOut]:
    """List the committed checkpoints by step."""
    jobs = ctx.project_service(Jobs)
    return paginate_by_number(
        lambda count, after: jobs.checkpoints(job, count, after),
        limit,
        cursor,
        lambda checkpoint: checkpoint.step,
        lambda checkpoint: CheckpointOut(
            bytes=checkpoint.manifest.bytes,
            **checkpoint.model_dump(include={"step", "attempt", "metrics", "created_at"}),
        ),
    )
