# Generated from _async/transport.py by docs/generate_sync_sdk.py; do not edit.
"""Sends requests over HTTP with retries, and reads event streams."""

from collections.abc import Iterator
from typing import TypeVar

import httpx2

from windlass.sdk._http import client_settings, headers_of, rewind, timeout_of, to_failure, to_response
from windlass.sdk._protocol import FileBody, Request, Response, TransportFailure, retry_delay, success
from windlass.sdk._streams import EventStream, ServerSentEvent
from windlass.sdk._sync.io import file_chunks, run_blocking, sleep
from windlass.sdk.connection import Connection

T = TypeVar("T")


class Transport:
    """The connections to one server."""

    def __init__(self, connection: Connection, *, timeout: float, retries: int) -> None:
        self._url, self._retries = connection.url, retries
        self._http = httpx2.Client(**client_settings(connection, timeout))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, request: Request) -> Response:
        """Send a request, again with back-off after a failure when that is safe, and return the successful response.

        Raises:
            WindlassError: the class of the problem's code; ``UnavailableError`` if there is no response.
        """
        attempt = 0
        while True:
            response = self.send_once(request)
            delay = retry_delay(request, response, attempt) if attempt < self._retries else None
            if delay is None:
                return success(response)
            attempt += 1
            sleep(delay)

    def send_once(self, request: Request) -> Response | TransportFailure:
        """Send a request once."""
        content = file_chunks(request.body) if isinstance(request.body, FileBody) else request.body
        rewind(request)
        try:
            with self._http.stream(
                request.method,
                request.path,
                params=request.query,
                headers=headers_of(request),
                content=content,
                timeout=timeout_of(request),
            ) as response:
                if request.sink is None or not response.is_success:
                    return to_response(response, response.read())
                for chunk in response.iter_bytes():
                    run_blocking(request.sink.write, chunk)
                return to_response(response, b"")
        except httpx2.RequestError as error:
            return to_failure(error, self._url)

    def send_presigned(self, request: Request) -> Response | TransportFailure:
        """Send a file to a URL that another server has signed, once; that server does not get the API key."""
        content = file_chunks(request.body) if isinstance(request.body, FileBody) else request.body
        try:
            with httpx2.Client(timeout=timeout_of(request)) as http:
                response = http.request(request.method, request.path, headers=headers_of(request), content=content)
                return to_response(response, response.content)
        except httpx2.RequestError as error:
            return to_failure(error, "the object store")

    def stream(self, event_stream: EventStream[T]) -> Iterator[T]:
        """Yield the items of a stream until it ends; reconnect after a disconnect."""
        while not event_stream.ended:
            delay = 0.0
            request = event_stream.next_request()
            try:
                with self._http.stream(
                    request.method,
                    request.path,
                    params=request.query,
                    headers=headers_of(request),
                    content=request.body if isinstance(request.body, bytes) else None,
                    timeout=timeout_of(request),
                ) as response:
                    if response.is_success:
                        event_stream.handle_open()
                        for item in _items(response, event_stream):
                            yield item
                        if not event_stream.ended:
                            closed = TransportFailure(f"{self._url} closed the connection", sent=True)
                            delay = event_stream.handle_disconnect(closed)
                    else:
                        delay = event_stream.handle_error_response(to_response(response, response.read()))
            except httpx2.RequestError as error:
                delay = event_stream.handle_disconnect(to_failure(error, self._url))
            if not event_stream.ended:
                sleep(delay)


def _items(response: httpx2.Response, event_stream: EventStream[T]) -> Iterator[T]:
    for event in httpx2.EventSource(response):
        item = event_stream.handle_event(ServerSentEvent(event.event, event.data, event.id))
        if item is not None:
            yield item
        if event_stream.ended:
            return
