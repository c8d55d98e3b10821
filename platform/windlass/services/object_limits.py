"""The checks of the limits on numbers of objects."""

from typing import Final

from windlass.domain.datasets import Dataset, VersionState
from windlass.domain.errors import LimitReachedError
from windlass.domain.limits import ProjectLimits
from windlass.ports import ReadProjectData

MAX_REMOVED: Final = 1000
"""Old keys or sessions that a new one removes at most; the next one removes more."""


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


def require_versions_below(repos: ReadProjectData, dataset: Dataset, limit: int) -> None:
    """Require that a dataset has fewer versions than its limit.

    Raises:
        LimitReachedError: it has as many.
    """
    number = repos.dataset_versions.count({"dataset": dataset.id})
    setting = "WINDLASS_LIMIT_MAX_DATASET_VERSIONS"
    require_below_limit("versions", f"dataset {dataset.name}", number, limit, setting)


def require_room_for_version(repos: ReadProjectData, dataset: Dataset, limits: ProjectLimits) -> None:
    """Require that a dataset may have one more version, and that the project may have one more to be processed.

    Raises:
        LimitReachedError: a limit is reached.
    """
    require_versions_below(repos, dataset, limits.versions_per_dataset)
    pending, most = repos.dataset_versions.count({"state": VersionState.PROCESSING}), limits.pending_dataset_versions
    if pending >= most:
        raise LimitReachedError(
            f"{pending} dataset versions of the project are being processed, the limit is {most}",
            hint="wait for versions to be processed, or delete some",
            context={"pending": pending, "limit": most},
        )


def require_room_for_model(repos: ReadProjectData, limit: int) -> None:
    """Require that the project may have the new model of a job. A result is registered beyond the limit, not lost.

    Raises:
        LimitReachedError: the project has too many.
    """
    require_below_limit("models", "the project", repos.models.count(), limit, "WINDLASS_LIMIT_MAX_MODELS")
