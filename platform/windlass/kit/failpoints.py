"""Failpoints: named points at which a test makes a process fail, to prove what holds when it dies there.

A failpoint does nothing unless code of a test has installed a handler in this process. No setting, environment variable
or file of an installation does that.
"""

from collections.abc import Callable

_handler: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """Mark a point in the code; each name occurs once."""
    if _handler is not None:
        _handler(name)


def install(handler: Callable[[str], None]) -> None:
    """Call ``handler`` with the name of every failpoint that this process reaches; only for tests."""
    global _handler  # noqa: PLW0603 - one handler per process, and a check of one variable where there is none
    _handler = handler
