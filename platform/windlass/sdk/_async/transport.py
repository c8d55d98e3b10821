"""Sends requests over HTTP with retries, and reads event streams."""

from collections.abc import AsyncIterator
from typing import TypeVar

import httpx2

from windlass.sdk._async.io import file_chunks, run_blocking, sleep
from windlass.sdk._http import client_settings, headers_of, rewind, timeout_of, to_failure, to_response
from windlass.sdk._protocol import FileBody, Request, Response, TransportFailure, retry_delay, success
from windlass.sdk._streams import EventStream, ServerSentEvent
from windlass.sdk.connection import Connection

T = TypeVar("T")


class AsyncTransport:
    """The connections to one server."""

    def __init__(self, connection: Connection, *, timeout: float, retries: int) -> None:
        self._url, self._retries = connection.url, retries
        self._http = httpx2.AsyncClient(**client_settings(connection, timeout))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, request: Request) -> Response:
        """Send a request, again with back-off after a failure when that is safe, and return the successful response.

        Raises:
            WindlassError: the class of the problem's code; ``UnavailableError`` if there is no response.
        """
        attempt = 0
        while True:
            response = await self.send_once(request)
            delay = retry_delay(request, response, attempt) if attempt < self._retries else None
            if delay is None:
                return success(response)
            attempt += 1
            await sleep(delay)

    async def send_once(self, request: Request) -> Response | TransportFailure:
        """Send a request once."""
        content = file_chunks(request.body) if isinstance(request.body, FileBody) else request.body
        rewind(request)
        try:
            async with self._http.stream(
                request.method,
                request.path,
                params=request.query,
                headers=headers_of(request),
                content=content,
                timeout=timeout_of(request),
            ) as response:
                if request.sink is None or not response.is_success:
                    return to_response(response, await response.aread())
                async for chunk in response.aiter_bytes():
                    await run_blocking(request.sink.write, chunk)
                return to_response(response, b"")
        except httpx2.RequestError as error:
            return to_failure(error, self._url)

    async def send_presigned(self, request: Request) -> Response | TransportFailure:
        """Send a file to a URL that another server has signed, once; that server does not get the API key."""
        content = file_chunks(request.body) if isinstance(request.body, FileBody) else request.body
        try:
            async with httpx2.AsyncClient(timeout=timeout_of(request)) as http:
                response = await http.request(
                    request.method, request.path, headers=headers_of(request), content=content
                )
                return to_response(response, response.content)
        except httpx2.RequestError as error:
            return to_failure(error, "the object store")

    async def stream(self, event_stream: EventStream[T]) -> AsyncIterator[T]:
        """Yield the items of a stream until it ends; reconnect after a disconnect."""
        while not event_stream.ended:
            delay = 0.0
            request = event_stream.next_request()
            try:
                async with self._http.stream(
                    request.method,
                    request.path,
                    params=request.query,
                    headers=headers_of(request),
                    content=request.body if isinstance(request.body, bytes) else None,
                    timeout=timeout_of(request),
                ) as response:
                    if response.is_success:
                        event_stream.handle_open()
                        async for item in _items(response, event_stream):
                            yield item
                        if not event_stream.ended:
                            closed = TransportFailure(f"{self._url} closed the connection", sent=True)
                            delay = event_stream.handle_disconnect(closed)
                    else:
                        delay = event_stream.handle_error_response(to_response(response, await response.aread()))
            except httpx2.RequestError as error:
                delay = event_stream.handle_disconnect(to_failure(error, self._url))
            if not event_stream.ended:
                await sleep(delay)


async def _items(response: httpx2.Response, event_stream: EventStream[T]) -> AsyncIterator[T]:
    async for event in httpx2.EventSource(response):
        item = event_stream.handle_event(ServerSentEvent(event.event, event.data, event.id))
        if item is not None:
            yield item
        if event_stream.ended:
            return
