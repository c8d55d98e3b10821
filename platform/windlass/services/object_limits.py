"""The checks of the limits on numbers of objects."""

from windlass.domain.datasets import VersionState
from windlass.domain.errors import LimitReachedError
from windlass.ports import ReadProjectData


def require_below_limit(noun: str, owner: str, number: int, limit: int, setting: str) -> None:
    """Check that one more object may be created; call it in the transaction that creates it.

    Args:
        noun: what is counted, in the plural.
        owner: what has them, such as ``the project``.
        number: how many there are.
        limit: how many there may be.
        setting: the environment variable of the limit, which an admin can raise.

    Raises:
        LimitReachedError: the limit is reached.
    """
    if number >= limit:
        raise LimitReachedError(
            f"{owner} has {number} {noun}, the limit is {limit}",
            hint=f"delete {noun} that are not needed, or ask an admin to raise {setting}",
            context={"number": number, "limit": limit},
        )


def require_active_below(limit: int, active: int) -> None:
    """Require that a project has fewer active jobs than its limit.

    Raises:
        LimitReachedError: it has as many.
    """
    if active >= limit:
        raise LimitReachedError(
            f"the project has {active} active jobs, the limit is {limit}",
            hint="wait for jobs to end, or cancel jobs",
            context={"active": active, "limit": limit},
        )


def check_pending_limit(repos: ReadProjectData, max_pending_versions: int) -> None:
    """Check the project's limit of versions in state ``processing``.

    Raises:
        LimitReachedError: the limit is reached.
    """
    pending = repos.dataset_versions.count({"state": VersionState.PROCESSING})
    if pending >= max_pending_versions:
        raise LimitReachedError(
            f"{pending} dataset versions of the project are being processed, the limit is {max_pending_versions}",
            hint="wait for versions to be processed, or delete some",
            context={"pending": pending, "limit": max_pending_versions},
        )


def require_room_for_model(repos: ReadProjectData, limit: int) -> None:
    """Require that the project may have the new model of a job. A result is registered beyond the limit, not lost.

    Raises:
        LimitReachedError: the project has too many.
    """
    require_below_limit("models", "the project", repos.models.count(), limit, "WINDLASS_LIMIT_MAX_MODELS")
