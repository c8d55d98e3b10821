"""Sends files, and resumes at the server's offset after a disconnect."""

from collections.abc import Awaitable, Callable

from windlass.domain.errors import ConflictError, UnavailableError
from windlass.sdk._async.io import sleep
from windlass.sdk._async.resource import AsyncResource
from windlass.sdk._protocol import FileBody, Request, Response, TransportFailure, backoff
from windlass.sdk.source_files import FileToSend, Progress
from windlass.wire.problems import error_from_response

_MAX_FAILURES_WITHOUT_PROGRESS = 6


class AsyncFileSender(AsyncResource):
    """A resource that takes files."""

    async def _send_file(
        self,
        file: FileToSend,
        send: Callable[[FileBody], Awaitable[str]],
        received_now: Callable[[], Awaitable[int]],
        progress: Progress | None,
        hint: str,
    ) -> None:
        """Send the rest of a file; after a failure, resume at the server's offset.

        Args:
            file: the file.
            send: sends all or some of the bytes; returns the reason of a retryable failure, else an empty string.
            received_now: asks the server for the offset.
            progress: called after each chunk.
            hint: hint of the error.

        Raises:
            UnavailableError: repeated failures without progress.
        """

        def report_position(position: int) -> None:
            if progress is not None:
                progress(file.name, position, file.bytes)

        received, failures = file.received, 0
        report_position(received)
        while received < file.bytes:
            problem = await send(FileBody(file.path, received, file.bytes, report_position))
            if problem and failures >= _MAX_FAILURES_WITHOUT_PROGRESS:
                raise UnavailableError(f"upload of {file.name} failed: {problem}", hint=hint)
            before = received
            received = await received_now()
            failures = 0 if received > before else failures + 1
            if problem:
                await sleep(backoff(failures))

    async def _send_rest(self, url: str, body: FileBody) -> str:
        """Send the rest of a file to the server; return the reason of a retryable failure."""
        headers = {"Upload-Offset": str(body.offset), "Content-Type": "application/octet-stream"}
        return retryable_problem(await self._transport.send_once(Request("PUT", url, headers=headers, body=body)))


def retryable_problem(response: Response | TransportFailure) -> str:
    """Return the reason of a retryable failure, an empty string on success; raise other errors."""
    if isinstance(response, TransportFailure):
        return response.message
    if response.is_success:
        return ""
    error = error_from_response(response.status, response.content)
    if isinstance(error, ConflictError | UnavailableError):
        return error.message
    raise error
