"""Appends events to a job's history."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from windlass.domain.jobs import Job
from windlass.domain.records import Event
from windlass.ports import ProjectData


def record_event(
    repos: ProjectData,
    job: Job,
    now: datetime,
    code: str,
    message: str,
    *,
    attempt: int | None = None,
    context: Mapping[str, Any] | None = None,
) -> Event:
    """Append an event to the job's history, in the transaction of the change that it reports."""
    return repos.telemetry.append_event(
        Event(
            project=job.project,
            job=job.id,
            sequence=0,
            time=now,
            code=code,
            message=message,
            context=dict(context or {}),
            attempt=attempt,
        )
    )
