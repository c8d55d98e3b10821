"""Binds operations to a client: ``get = call(operation)`` makes a method that runs the flow there.

Each noun states its operations once, as functions of a scope; its two classes are tables of them.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from windlass.sdk._core import Flow, Listing, Scope
from windlass.sdk._streams import Subscription
from windlass.sdk._transport import AsyncTransport, Transport

P = ParamSpec("P")
T = TypeVar("T")


class Resource:
    """One noun of a blocking client."""

    def __init__(self, transport: Transport, scope: Scope) -> None:
        self._transport = transport
        self._scope = scope


class AsyncResource:
    """One noun of an asynchronous client."""

    def __init__(self, transport: AsyncTransport, scope: Scope) -> None:
        self._transport = transport
        self._scope = scope


def call(operation: Callable[Concatenate[Scope, P], Flow[T]]) -> Callable[Concatenate[Resource, P], T]:
    """Make a blocking method."""

    @wraps(operation)
    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._transport.run(operation(self._scope, *args, **kwargs))

    return method


def listing(operation: Callable[Concatenate[Scope, P], Listing[T]]) -> Callable[Concatenate[Resource, P], Iterator[T]]:
    """Make a method that iterates over all pages."""

    @wraps(operation)
    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        pages, cursor = operation(self._scope, *args, **kwargs), None
        while True:
            page = self._transport.run(pages.page(cursor))
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    return method


def streaming(
    operation: Callable[Concatenate[Scope, P], Subscription[T]],
) -> Callable[Concatenate[Resource, P], Iterator[T]]:
    """Make a method that iterates over a stream."""

    @wraps(operation)
    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._transport.stream(operation(self._scope, *args, **kwargs))

    return method


def async_call(
    operation: Callable[Concatenate[Scope, P], Flow[T]],
) -> Callable[Concatenate[AsyncResource, P], Coroutine[Any, Any, T]]:
    """Make an asynchronous method."""

    @wraps(operation)
    async def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.run(operation(self._scope, *args, **kwargs))

    return method


def async_listing(
    operation: Callable[Concatenate[Scope, P], Listing[T]],
) -> Callable[Concatenate[AsyncResource, P], AsyncIterator[T]]:
    """Make an asynchronous method that iterates over all pages."""

    @wraps(operation)
    async def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        pages, cursor = operation(self._scope, *args, **kwargs), None
        while True:
            page = await self._transport.run(pages.page(cursor))
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    return method


def async_streaming(
    operation: Callable[Concatenate[Scope, P], Subscription[T]],
) -> Callable[Concatenate[AsyncResource, P], AsyncIterator[T]]:
    """Make an asynchronous method that iterates over a stream."""

    @wraps(operation)
    def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._transport.stream(operation(self._scope, *args, **kwargs))

    return method
