"""Waiting for what a cluster does in its own time."""

import time
from collections.abc import Callable


def eventually(ask: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Ask until the answer is yes; fail with ``what`` should have happened."""
    until = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.1)
