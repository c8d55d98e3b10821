"""Request bodies that are bytes of a declared file."""

from collections.abc import Callable
from typing import Any, Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from windlass.domain.artifacts import FileEntry
from windlass.domain.errors import BadRequestError
from windlass_api.concurrency import release_further_slots
from windlass_api.dependencies import content_length

BINARY_BODY: Final[dict[str, Any]] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
"""The body in the OpenAPI document: a route that reads it as a stream declares none."""
_CHUNK_BYTES = 4 << 20
"""Bytes that are written and synced to disk at a time."""


async def append_body(
    request: Request, declared: FileEntry, offset: int, append: Callable[[int, bytes], int], hint: str
) -> None:
    """Append the body to the file from ``offset``; ``append`` stores a chunk and returns the new length of the file.

    What has arrived before a disconnect is kept, in whole chunks.

    Raises:
        BadRequestError: the body is longer than the rest of the file, with this ``hint``; nothing is stored.
    """
    length = content_length(request.headers.get("content-length", ""))
    if offset + length > declared.bytes:
        raise BadRequestError(
            f"offset {offset} plus {length} bytes exceed the declared length of {declared.bytes} bytes", hint=hint
        )
    release_further_slots(request.scope)
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) >= _CHUNK_BYTES:
            offset = await run_in_threadpool(append, offset, bytes(buffer))
            buffer.clear()
    if buffer:
        await run_in_threadpool(append, offset, bytes(buffer))
