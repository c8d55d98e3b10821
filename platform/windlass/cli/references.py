"""Resolves references to jobs: an id, the beginning of an id, a name, or ``@last``."""

import re
from itertools import islice

from windlass.cli.safe_text import one_line
from windlass.cli.session import Session
from windlass.domain.errors import InvalidError, NotFoundError

LAST = "@last"
_ID = re.compile("job_[0-9a-hjkmnp-tv-z]{26}")
_MAX_CANDIDATES = 5


def resolve_job(session: Session, reference: str) -> str:
    """Return the id of a job of the project. A complete id is returned without a request.

    Raises:
        NotFoundError: no job matches.
        InvalidError: several jobs match; the message lists the newest of them.
    """
    if _ID.fullmatch(reference):
        return reference
    jobs, project = session.client.jobs, session.client.connection.project
    listed = jobs.list() if reference == LAST else jobs.list(match=reference)
    matches = [*islice(listed, 1 if reference == LAST else _MAX_CANDIDATES + 1)]
    if not matches:
        problem = "has no job" if reference == LAST else f"has no job {reference}"
        raise NotFoundError(f"project {project} {problem}", hint="list its jobs: `windlass job list`")
    if len(matches) > 1:
        shown = [f"{job.id} {job.state} {one_line(job.name or '')}".rstrip() for job in matches[:_MAX_CANDIDATES]]
        more = ", and more" if len(matches) > _MAX_CANDIDATES else ""
        raise InvalidError(
            f"{reference} matches several jobs: {', '.join(shown)}{more}",
            hint="give more characters of the id, or @last for the newest job",
        )
    return matches[0].id
