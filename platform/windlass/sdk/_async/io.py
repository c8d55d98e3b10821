"""What asyncio does differently from blocking code; ``windlass.sdk._sync.io`` is the counterpart."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import ParamSpec, TypeVar

from windlass.sdk._protocol import FileBody

P = ParamSpec("P")
T = TypeVar("T")


async def sleep(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)


async def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function, such as file I/O, outside the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def file_chunks(body: FileBody) -> AsyncIterator[bytes]:
    """Read a file in chunks outside the event loop."""
    chunks = body.chunks()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
