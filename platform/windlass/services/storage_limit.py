"""The limit of the bytes of a project's files, for jobs. Uploads are checked when they are opened."""

from datetime import datetime

from windlass.domain.errors import LimitReachedError
from windlass.domain.jobs import MOVES, ActionOwner, Job, JobState, Reason, move
from windlass.domain.storage_layout import project_prefix
from windlass.ports import ProjectData
from windlass.services.base import ServiceDependencies, stored_bytes
from windlass.services.job_events import record_event


def excess_bytes(deps: ServiceDependencies, project: str) -> int:
    """Return by how many bytes a project exceeds its limit. It reads the store: call it outside a transaction."""
    return max(0, stored_bytes(deps.store, project_prefix(project)) - deps.limits.stored_bytes)


def fail_for_storage(repos: ProjectData, job: Job, excess: int, limit: int, now: datetime) -> LimitReachedError:
    """Fail a job whose project exceeds its limit; return the error to raise after the commit."""
    reason = Reason(
        code="storage_limit_reached",
        message=f"the files of the project exceed its limit of {limit} bytes by {excess} bytes",
        action_by=ActionOwner.USER,
        action="delete datasets, model versions or ended jobs, or ask an admin to raise the limit; then retry the job",
        context={"excess": excess, "limit": limit},
    )
    if JobState.FAILED in MOVES[job.state]:
        repos.jobs.save(move(job, JobState.FAILED, now, reason))
        record_event(repos, job, now, "job_failed", reason.message, context=reason.context)
    return LimitReachedError(reason.message, hint=reason.action, context=reason.context)
