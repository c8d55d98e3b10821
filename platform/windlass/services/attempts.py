"""Looks up the attempts and checkpoints of runs and jobs, and ends attempts."""

from datetime import datetime

from windlass.domain.errors import NotFoundError
from windlass.domain.jobs import Attempt, AttemptState, Job, Run
from windlass.domain.records import Checkpoint
from windlass.ports import ProjectData, ReadProjectData, ReadUnitOfWork
from windlass.services.job_events import record_event


def run_and_job(uow: ReadUnitOfWork, run_id: str) -> tuple[Run, Job]:
    """Return the run with this id and its job.

    Raises:
        NotFoundError: no such run.
    """
    run = uow.find_run(run_id)
    if run is None:
        raise NotFoundError(f"no run {run_id}")
    return run, uow.project(run.project).jobs.get({"id": run.job})


def newest_attempt(repos: ReadProjectData, job: Job) -> Attempt | None:
    """Return the newest attempt of a job, None before the first one."""
    return repos.attempts.find({"job": job.id, "number": job.attempt}) if job.attempt else None


def result_attempt(repos: ReadProjectData, run: Run, job: Job) -> Attempt | None:
    """Return the newest attempt if it is of this run, or has finished the training in an earlier run of the job.

    A run may end between the result and its registration. The next run registers that result instead of training again.
    """
    newest = newest_attempt(repos, job)
    if newest is None or newest.run == run.id or newest.state is AttemptState.FINISHED:
        return newest
    return None


def close_attempt(repos: ProjectData, job: Job, attempt: Attempt, state: AttemptState, now: datetime) -> None:
    """End a live attempt without a result."""
    repos.attempts.save(attempt.model_copy(update={"state": state, "ended_at": now}))
    record_event(repos, job, now, f"attempt_{state}", f"attempt {attempt.number} was {state}", attempt=attempt.number)


def newest_checkpoint(repos: ReadProjectData, job: Job) -> Checkpoint | None:
    """Return the checkpoint from which the next attempt of a job resumes."""
    newest = repos.checkpoints.page(1, None, {"job": job.id}, newest_first=True)
    return newest[0] if newest else None
