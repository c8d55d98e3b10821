"""Error messages on standard error, and exit codes."""

import sys

from rich.console import Console
from rich.text import Text

from windlass.cli.safe_text import lines, one_line
from windlass.domain.errors import (
    BadRequestError,
    BudgetExceededError,
    ChecksumMismatchError,
    ConflictError,
    ForbiddenError,
    IdempotencyMismatchError,
    InvalidError,
    NotFoundError,
    PreconditionFailedError,
    PreconditionRequiredError,
    QuotaExceededError,
    RequestTimeoutError,
    StorageFullError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    WindlassError,
)

OK = 0
FAILED = 1
USAGE = 2
WAIT_TIMED_OUT = 8
INTERRUPTED = 130

_EXIT_CODES: tuple[tuple[type[WindlassError], int], ...] = (
    (InvalidError, USAGE),
    (RequestTimeoutError, 7),
    (BadRequestError, USAGE),
    (PreconditionRequiredError, USAGE),
    (TooLargeError, USAGE),
    (ChecksumMismatchError, USAGE),
    (UnauthenticatedError, 3),
    (ForbiddenError, 3),
    (NotFoundError, 4),
    (BudgetExceededError, 6),
    (ConflictError, 5),
    (IdempotencyMismatchError, 5),
    (PreconditionFailedError, 5),
    (QuotaExceededError, 6),
    (UnavailableError, 7),
    (StorageFullError, 7),
)


def exit_code(error: WindlassError) -> int:
    """Return the exit code of an error; 1 if its class has none of its own."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)


def print_error(error: WindlassError) -> None:
    """Print an error: message, fields, hint, and the request id in the server's log."""
    block = Text()
    block.append("error: ", style="bold red")
    block.append(lines(error.message))
    for problem in error.fields:
        if len(error.fields) > 1 or problem.problem not in error.message:
            block.append(f"\n  {one_line(problem.pointer or '/')}: ", style="bold")
            block.append(one_line(problem.problem))
    smallest = error.context.get("smallest_change")
    if smallest and str(smallest) not in error.hint:
        block.append("\n  smallest change that fits: ", style="bold")
        block.append(one_line(smallest))
    if error.hint:
        block.append("\n  hint: ", style="bold")
        block.append(one_line(error.hint))
    if error.request_id:
        block.append(f"\n  request: {one_line(error.request_id)}", style="dim")
    print_stderr(block)


def print_stderr(text: Text | str) -> None:
    """Print to standard error without wrapping lines."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False, file=sys.stderr).print(text)
