"""Writes a job's events: the one way, so that every reader sees the same facts in the same order."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from windlass.domain.jobs import Job
from windlass.domain.records import Event
from windlass.ports import ProjectData


def tell(
    inside: ProjectData,
    job: Job,
    now: datetime,
    code: str,
    message: str,
    *,
    attempt: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Event:
    """Append an event to the job's history, in the transaction that makes it true."""
    return inside.journal.append_event(
        Event(
            project=job.project,
            job=job.id,
            sequence=0,
            time=now,
            code=code,
            message=message,
            facts=dict(facts or {}),
            attempt=attempt,
        )
    )
