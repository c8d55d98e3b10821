"""Drives flows over HTTP, blocking and asynchronous. The only module that knows httpx2."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from typing import Any, TypeVar

import httpx2

from windlass import __version__
from windlass.domain.errors import UnavailableError
from windlass.sdk._core import CONNECT_TIMEOUT, Failure, FileBody, Flow, Pause, Reply, Request, Step, perform
from windlass.sdk._streams import Sse, Subscription
from windlass.sdk.connection import Connection

T = TypeVar("T")

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def _settings(connection: Connection, timeout: float) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "base_url": connection.url,
        "headers": {"Authorization": f"Bearer {connection.key}", "User-Agent": f"windlass-python/{__version__}"},
        "timeout": httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
        "follow_redirects": False,
        # A proxy of the environment cannot reach this machine's loopback.
        "trust_env": not connection.local,
    }
    if connection.local and connection.url.startswith("http:"):
        # No TLS will happen; a context that trusts nobody saves the tenth of a second that loading the CAs takes.
        settings["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return settings


def _timeout(request: Request) -> httpx2.Timeout:
    return httpx2.Timeout(request.timeout, connect=CONNECT_TIMEOUT)


def _headers(request: Request) -> dict[str, str]:
    if isinstance(request.body, FileBody):
        return {**request.headers, "Content-Length": str(request.body.length - request.body.offset)}
    return dict(request.headers)


def _failure(error: httpx2.RequestError, url: str) -> Failure:
    if isinstance(error, httpx2.SSEError):
        raise UnavailableError(f"{url} does not answer with an event stream", hint="check the URL") from error
    if isinstance(error, _NOT_SENT):
        return Failure(f"nothing answers at {url}: {error}", sent=False)
    if isinstance(error, httpx2.TimeoutException):
        return Failure(f"no answer from {url} in time", sent=True, silent=True)
    return Failure(f"the connection to {url} broke: {str(error) or type(error).__name__}", sent=True)


def _reply(response: httpx2.Response, content: bytes) -> Reply:
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, content)


def _rewind(request: Request) -> None:
    if request.sink is not None:
        request.sink.seek(0)
        request.sink.truncate()


class Transport:
    """Drives flows, blocking."""

    def __init__(self, connection: Connection, *, timeout: float, retries: int) -> None:
        self._url, self._retries = connection.url, retries
        self._http = httpx2.Client(**_settings(connection, timeout))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its result."""
        driven = perform(flow, self._retries)
        answer: object = None
        try:
            while True:
                answer = self._do(driven.send(answer))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            driven.close()

    def _do(self, step: Step) -> object:
        if isinstance(step, Request):
            return self._send(step)
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        return step.function()

    def _send(self, request: Request) -> Reply | Failure:
        body = request.body.chunks() if isinstance(request.body, FileBody) else request.body
        _rewind(request)
        try:
            with self._http.stream(
                request.method,
                request.path,
                params=request.query,
                headers=_headers(request),
                content=body,
                timeout=_timeout(request),
            ) as response:
                if request.sink is None or not response.is_success:
                    return _reply(response, response.read())
                for chunk in response.iter_bytes():
                    request.sink.write(chunk)
                return _reply(response, b"")
        except httpx2.RequestError as error:
            return _failure(error, self._url)

    def stream(self, subscription: Subscription[T]) -> Iterator[T]:
        """Yield the items of a stream until it ends, asking again after cuts."""
        while not subscription.ended:
            delay = yield from self._listen(subscription)
            if not subscription.ended:
                time.sleep(delay)

    def _listen(self, subscription: Subscription[T]) -> Generator[T, None, float]:
        request = subscription.next_request()
        try:
            with self._http.stream(
                request.method,
                request.path,
                params=request.query,
                headers=dict(request.headers),
                content=request.body if isinstance(request.body, bytes) else None,
                timeout=_timeout(request),
            ) as response:
                if not response.is_success:
                    return subscription.refused(_reply(response, response.read()))
                subscription.opened()
                for event in httpx2.EventSource(response):
                    item = subscription.accept(Sse(event.event, event.data, event.id))
                    if item is not None:
                        yield item
                    if subscription.ended:
                        return 0.0
        except httpx2.RequestError as error:
            return subscription.cut(_failure(error, self._url))
        return subscription.cut(Failure(f"{self._url} closed the connection", sent=True))


class AsyncTransport:
    """Drives flows on asyncio."""

    def __init__(self, connection: Connection, *, timeout: float, retries: int) -> None:
        self._url, self._retries = connection.url, retries
        self._http = httpx2.AsyncClient(**_settings(connection, timeout))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its result."""
        driven = perform(flow, self._retries)
        answer: object = None
        try:
            while True:
                answer = await self._do(driven.send(answer))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            driven.close()

    async def _do(self, step: Step) -> object:
        if isinstance(step, Request):
            return await self._send(step)
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        return await asyncio.to_thread(step.function)

    async def _send(self, request: Request) -> Reply | Failure:
        body = _async_chunks(request.body) if isinstance(request.body, FileBody) else request.body
        _rewind(request)
        try:
            async with self._http.stream(
                request.method,
                request.path,
                params=request.query,
                headers=_headers(request),
                content=body,
                timeout=_timeout(request),
            ) as response:
                if request.sink is None or not response.is_success:
                    return _reply(response, await response.aread())
                async for chunk in response.aiter_bytes():
                    await asyncio.to_thread(request.sink.write, chunk)
                return _reply(response, b"")
        except httpx2.RequestError as error:
            return _failure(error, self._url)

    async def stream(self, subscription: Subscription[T]) -> AsyncIterator[T]:
        """Yield the items of a stream until it ends, asking again after cuts."""
        while not subscription.ended:
            delay = 0.0
            request = subscription.next_request()
            try:
                async with self._http.stream(
                    request.method,
                    request.path,
                    params=request.query,
                    headers=dict(request.headers),
                    content=request.body if isinstance(request.body, bytes) else None,
                    timeout=_timeout(request),
                ) as response:
                    if not response.is_success:
                        delay = subscription.refused(_reply(response, await response.aread()))
                    else:
                        subscription.opened()
                        async for item in _items(response, subscription):
                            yield item
                        if not subscription.ended:
                            delay = subscription.cut(Failure(f"{self._url} closed the connection", sent=True))
            except httpx2.RequestError as error:
                delay = subscription.cut(_failure(error, self._url))
            if not subscription.ended:
                await asyncio.sleep(delay)


async def _items(response: httpx2.Response, subscription: Subscription[T]) -> AsyncIterator[T]:
    async for event in httpx2.EventSource(response):
        item = subscription.accept(Sse(event.event, event.data, event.id))
        if item is not None:
            yield item
        if subscription.ended:
            return


async def _async_chunks(body: FileBody) -> AsyncIterator[bytes]:
    chunks = body.chunks()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
