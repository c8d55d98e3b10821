"""The base class of the resources: one method per kind of request."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel

from windlass.domain.errors import PreconditionFailedError
from windlass.sdk._async.io import sleep
from windlass.sdk._async.pages import AsyncPaginator, paginate
from windlass.sdk._async.transport import AsyncTransport
from windlass.sdk._protocol import (
    JSON_CONTENT,
    MAX_ETAG_RETRIES,
    PAGE_SIZE,
    PollDelay,
    Request,
    decode_as,
    decode_text,
    encode,
    path,
    post_request,
    query_params,
)
from windlass.wire.base import DeletionOut, Page

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class AsyncResource:
    """A group of operations on a server."""

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    def _path(self, *segments: str) -> str:
        """Return the URL path of a resource in the project."""
        return path("projects", self._project, *segments)

    async def _get(self, url: str, model: type[M], query: Mapping[str, object] | None = None) -> M:
        return decode_as(model)(await self._transport.send(Request("GET", url, query=query_params(query))))

    async def _get_html(self, url: str) -> str:
        return decode_text(await self._transport.send(Request("GET", url, headers={"Accept": "text/html"})))

    async def _post(
        self,
        url: str,
        model: type[M],
        body: BaseModel | None = None,
        key: str | None = None,
        *,
        read_only: bool = False,
    ) -> M:
        return decode_as(model)(await self._transport.send(post_request(url, body, key=key, read_only=read_only)))

    async def _put(self, url: str, model: type[M], body: BaseModel, query: Mapping[str, object] | None = None) -> M:
        request = Request("PUT", url, query=query_params(query), headers=JSON_CONTENT, body=encode(body))
        return decode_as(model)(await self._transport.send(request))

    async def _patch_without_etag(self, url: str, model: type[M], body: BaseModel) -> M:
        """PATCH an object whose route needs no ETag."""
        request = Request("PATCH", url, headers=JSON_CONTENT, body=encode(body, exclude_unset=True))
        return decode_as(model)(await self._transport.send(request))

    async def _put_version(self, url: str, model: type[M], body: BaseModel, if_match: int | None) -> M:
        """PUT the next version of an object. Without ``if_match``, as ``_patch``."""

        async def write(etag: str) -> M:
            request = Request("PUT", url, headers={"If-Match": etag, **JSON_CONTENT}, body=encode(body))
            return decode_as(model)(await self._transport.send(request))

        return await self._with_etag(write, lambda: self._read_etag(url), if_match)

    async def _patch(self, url: str, model: type[M], body: BaseModel, if_match: int | None) -> M:
        """PATCH the fields set in ``body``. Without ``if_match``, read the ETag first and retry if it has changed.

        Raises:
            PreconditionFailedError: ``if_match`` is not the current version.
        """

        async def write(etag: str) -> M:
            headers = {"If-Match": etag, **JSON_CONTENT}
            request = Request("PATCH", url, headers=headers, body=encode(body, exclude_unset=True))
            return decode_as(model)(await self._transport.send(request))

        return await self._with_etag(write, lambda: self._read_etag(url), if_match)

    async def _delete(
        self,
        url: str,
        if_match: int | None,
        read_etag: Callable[[], Awaitable[str]] | None = None,
        *,
        dry_run: bool = False,
        cascade: bool = False,
    ) -> DeletionOut:
        """DELETE an object; ``read_etag`` gets its ETag if a GET of ``url`` does not return it."""
        query = query_params({"dry_run": dry_run or None, "cascade": cascade or None})

        async def write(etag: str) -> DeletionOut:
            request = Request("DELETE", url, query=query, headers={"If-Match": etag})
            return decode_as(DeletionOut)(await self._transport.send(request))

        return await self._with_etag(write, read_etag or (lambda: self._read_etag(url)), if_match)

    async def _delete_without_result(self, url: str) -> None:
        await self._transport.send(Request("DELETE", url))

    async def _delete_with_result(self, url: str, model: type[M], query: Mapping[str, object] | None = None) -> M:
        return decode_as(model)(await self._transport.send(Request("DELETE", url, query=query_params(query))))

    def _list(self, url: str, model: type[T], query: Mapping[str, object] | None = None) -> AsyncPaginator[T]:
        """Return a list of ``model`` objects."""
        page_model: type[Page[T]] = Page[model]  # type: ignore[valid-type]  # pydantic creates it at run time

        async def fetch(cursor: str | None) -> Page[T]:
            parameters = {**(query or {}), "limit": PAGE_SIZE, "cursor": cursor}
            return self._bind_items(await self._get(url, page_model, parameters))

        return paginate(fetch)

    def _bind_items(self, page: Page[T]) -> Page[T]:
        """Give the items of a page what their methods need."""
        return page

    async def _poll(
        self, read: Callable[[], Awaitable[T]], done: Callable[[T], bool], timeout: float | None, description: str
    ) -> T:
        """Poll with growing delays until ``done``.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds.
        """
        delay = PollDelay(description, timeout)
        while True:
            value = await read()
            if done(value):
                return value
            await sleep(delay.seconds())

    async def _read_etag(self, url: str) -> str:
        """Read the ETag of an object; ``*`` if the object has none."""
        return (await self._transport.send(Request("GET", url))).headers.get("etag", "*")

    async def _with_etag(
        self, write: Callable[[str], Awaitable[T]], read_etag: Callable[[], Awaitable[str]], if_match: int | None
    ) -> T:
        if if_match is not None:
            return await write(f'"{if_match}"')
        for _ in range(MAX_ETAG_RETRIES):
            etag = await read_etag()
            try:
                return await write(etag)
            except PreconditionFailedError:
                continue
        return await write(await read_etag())
