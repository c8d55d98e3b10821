"""Which entries of the audit log are listed or exported."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypedDict


class AuditFilters(TypedDict, total=False):
    """Entries that match all of these; None: any value."""

    project: str | None
    """Name or uid of a project."""
    actor: str | None
    """A user, the id of a job, ``system`` or ``anonymous``."""
    action: str | None
    """Noun and verb, such as job.create."""
    outcome: Literal["accepted", "denied"] | None
    key: str | None
    """Id of an API key."""
    request_id: str | None
    since: datetime | None
    """Entries of this time or later; an aware time."""
    until: datetime | None
    """Entries before this time; an aware time."""


def filter_query(filters: AuditFilters) -> Mapping[str, object]:
    """Return the query of a request."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in filters.items()
        if value is not None
    }
