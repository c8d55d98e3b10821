"""Requests to model servers on behalf of a client; they end when that client disconnects."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import httpx2
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from windlass.domain.errors import (
    BusyError,
    EndpointNotReadyError,
    FieldProblem,
    InvalidError,
    TooLargeError,
    UpstreamError,
)
from windlass.domain.usage import parse_usage
from windlass.runtime.http import internal_async_client
from windlass.services.request_usage import Outcome
from windlass.wire.base import Problem
from windlass_api.stream_usage import StreamUsage

T = TypeVar("T")

_TIMEOUT = httpx2.Timeout(300.0, connect=5.0)
_MAX_CONNECTIONS = 200
_RETRY = "retry in a few seconds"


def model_server_client() -> httpx2.AsyncClient:
    """Return the client with the connection pool to the model servers."""
    return internal_async_client(timeout=_TIMEOUT, max_connections=_MAX_CONNECTIONS)


async def post(request: Request, url: str, body: bytes, headers: dict[str, str]) -> httpx2.Response:
    """POST JSON to a model server; return the response, read in full unless it is an event stream.

    Raises:
        ClientDisconnect: the client of ``request`` disconnected; the request to the model server is closed too.
        UpstreamError: the model server timed out.
        EndpointNotReadyError: the model server does not accept connections.
    """
    try:
        return await until_disconnect(request, _post(request.app.state.model_server, url, body, headers))
    except httpx2.ConnectTimeout as error:
        raise EndpointNotReadyError("cannot connect to the model server", hint=_RETRY) from error
    except httpx2.TimeoutException as error:
        raise UpstreamError("the model server timed out") from error
    except httpx2.TransportError as error:
        raise EndpointNotReadyError("cannot connect to the model server", hint=_RETRY) from error


def is_event_stream(reply: httpx2.Response) -> bool:
    """Return whether the body is a stream of server-sent events."""
    return "text/event-stream" in reply.headers.get("content-type", "")


def raise_for_status(reply: httpx2.Response) -> None:
    """Raise the error of an unsuccessful response."""
    if reply.is_success:
        return
    problem = (
        Problem.model_validate_json(reply.content) if "problem+json" in reply.headers.get("content-type", "") else None
    )
    detail = problem.detail if problem else ""
    match reply.status_code:
        case 413:
            raise TooLargeError(detail or "the body is too large for the model server", hint="send fewer inputs")
        case 429:
            raise BusyError(detail or "the model server is busy", hint=_RETRY)
        case 503:
            raise EndpointNotReadyError(detail or "the model server is not ready", hint=_RETRY)
        case 400 | 422:
            fields = [FieldProblem(item.pointer, item.detail) for item in problem.errors] if problem else []
            raise InvalidError(detail or "the model server rejected the input", fields=fields)
    raise UpstreamError(detail or f"the model server returned status {reply.status_code}")


def is_unreachable(error: EndpointNotReadyError) -> bool:
    """Return whether the model server was not reached, so that it has not received the request."""
    return isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)


def reported_usage(reply: httpx2.Response) -> tuple[int, int]:
    """Return the prompt and completion tokens that a complete JSON reply reports."""
    try:
        return parse_usage(reply.json())
    except ValueError:
        return 0, 0


class RelayResponse(StreamingResponse):
    """Relays an event stream; closes it also when the client disconnects before the first event."""

    def __init__(self, reply: httpx2.Response, on_end: Callable[[Outcome, tuple[int, int]], None]) -> None:
        """``reply`` is an open response of a model server; ``on_end`` is called at its end."""
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._relayed(), reply.status_code, headers, media_type=reply.headers.get("content-type"))
        self._reply, self._on_end = reply, on_end
        self._usage = StreamUsage()
        self._outcome: Outcome = "cancelled"

    async def _relayed(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._reply.aiter_bytes():
                self._usage.read(part)
                yield part
        except httpx2.HTTPError:
            self._outcome = "failed"
            raise
        self._outcome = "failed" if self._usage.has_failed else "succeeded"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end(self._outcome, self._usage.tokens)
            with anyio.CancelScope(shield=True):
                await self._reply.aclose()


async def _post(client: httpx2.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> httpx2.Response:
    """Send a request; again, once, if its connection ends without a response.

    The pod of a replica that is removed closes connections which other requests use. A prediction changes nothing.
    """
    try:
        return await _send(client, url, body, headers)
    except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
        return await _send(client, url, body, headers)


async def _send(client: httpx2.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> httpx2.Response:
    request = client.build_request("POST", url, content=body, headers={**headers, "Content-Type": "application/json"})
    reply = await client.send(request, stream=True)
    try:
        if not is_event_stream(reply):
            await reply.aread()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await reply.aclose()
        raise
    return reply


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of ``work``; cancel it when the client disconnects. The request's body was read before.

    Raises:
        ClientDisconnect: the client disconnected.
    """
    task, watcher = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
