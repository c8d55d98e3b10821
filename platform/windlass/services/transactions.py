"""Repeats operations whose transaction lost against a concurrent one.

PostgreSQL detects such conflicts instead of letting transactions wait for each other. The operation, with its reads and
decisions, is repeated at its boundary: a request, an iteration of a loop, the execution of an intent.
"""

from collections.abc import Callable
from threading import Event
from typing import TypeVar

from windlass.domain.errors import TransactionConflictError
from windlass.kit.backoff import Backoff

R = TypeVar("R")

CONFLICT_BACKOFF = Backoff(first=0.01, maximum=0.5, jitter=1.0)
MAX_CONFLICTS = 12
"""Conflicts in a row, over two seconds on average, after which an operation fails."""


def _ignore() -> None:
    """Do nothing."""


def repeat_on_conflict(
    operation: Callable[[], R],
    wait: Callable[[float], object] | None = None,
    on_conflict: Callable[[], object] = _ignore,
) -> R:
    """Return the result of ``operation``, which is repeated while its transaction conflicts with a concurrent one.

    ``on_conflict`` is called before each repetition.

    Raises:
        TransactionConflictError: it conflicted ``MAX_CONFLICTS`` times.
    """
    wait = Event().wait if wait is None else wait
    for failures in range(1, MAX_CONFLICTS):
        try:
            return operation()
        except TransactionConflictError:
            on_conflict()
            wait(CONFLICT_BACKOFF.delay(failures))
    return operation()
