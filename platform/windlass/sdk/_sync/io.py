"""What blocking code does differently from asyncio; ``windlass.sdk._async.io`` is the counterpart."""

import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from windlass.sdk._protocol import FileBody

P = ParamSpec("P")
T = TypeVar("T")


def sleep(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function."""
    return function(*args, **kwargs)


def file_chunks(body: FileBody) -> Iterator[bytes]:
    """Read a file in chunks."""
    return body.chunks()
