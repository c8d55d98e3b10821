"""What the scheduler knows of a job and of its active run. No I/O."""

from datetime import datetime
from typing import Self

from windlass.domain.jobs import DomainModel, Job, JobState, Run
from windlass.domain.projects import Project
from windlass.domain.quota import ResourceDemand


class GpuRequest(DomainModel):
    """The GPUs that a job asks for."""

    job: str
    project: str
    pool: str
    gpus: int
    priority: int
    queued_at: datetime
    waiting: bool
    """Whether the job is in the queue."""

    @classmethod
    def of_job(cls, job: Job) -> Self | None:
        """Return the request of a job, None when it has ended."""
        if job.state.terminal:
            return None
        resources = job.spec.resources
        return cls(
            job=job.id,
            project=job.project,
            pool=resources.pool,
            gpus=resources.gpus,
            priority=job.spec.priority,
            queued_at=job.queued_at or job.created_at,
            waiting=job.state is JobState.QUEUED,
        )


class GpuAllocation(DomainModel):
    """The GPUs of a job's request, held by its active run."""

    run: str
    job: str
    admitted_at: datetime
    terminating: bool

    @classmethod
    def of_run(cls, run: Run) -> Self | None:
        """Return the allocation of a run, None when it has ended."""
        if run.ended_at is not None:
            return None
        return cls(run=run.id, job=run.job, admitted_at=run.created_at, terminating=run.stop is not None)


def demand_of(request: GpuRequest, project: Project, allocation: GpuAllocation | None) -> ResourceDemand | None:
    """Return the demand of a job, None when it has none now. The project's current priority ceiling applies to it."""
    if allocation is None and not request.waiting:
        return None
    return ResourceDemand(
        job=request.job,
        project=project.name,
        pool=request.pool,
        gpus=request.gpus,
        priority=min(request.priority, project.priority_ceiling),
        queued_at=request.queued_at,
        admitted_at=allocation.admitted_at if allocation else None,
        terminating=allocation is not None and allocation.terminating,
    )
