"""Pages of lists; ``windlass.sdk._sync.pages`` is the counterpart."""

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

from windlass.sdk.page_items import PageItems
from windlass.wire.base import Page

T = TypeVar("T")


class AsyncCursorPage(PageItems[T]):
    """One page of a list. Iteration yields the items of this page and of all later ones."""

    def __init__(self, page: Page[T], fetch: Callable[[str | None], Awaitable[Page[T]]]) -> None:
        super().__init__(page.items, page.next_cursor)
        self._fetch = fetch

    async def next_page(self) -> "AsyncCursorPage[T] | None":
        """Get the next page; None on the last page."""
        if self.next_cursor is None:
            return None
        return AsyncCursorPage(await self._fetch(self.next_cursor), self._fetch)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the items of this page and of all later ones."""
        page: AsyncCursorPage[T] | None = self
        while page is not None:
            for item in page.items:
                yield item
            page = await page.next_page()


class AsyncPaginator(Generic[T]):
    """A list on the server: ``async for`` yields all items, ``await`` returns the first page."""

    def __init__(self, fetch: Callable[[str | None], Awaitable[Page[T]]]) -> None:
        self._fetch = fetch

    def __await__(self) -> Generator[Any, Any, AsyncCursorPage[T]]:
        """Get the first page."""
        return self._first_page().__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the items of all pages."""
        async for item in await self._first_page():
            yield item

    async def _first_page(self) -> AsyncCursorPage[T]:
        return AsyncCursorPage(await self._fetch(None), self._fetch)


def paginate(fetch: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncPaginator[T]:
    """Return the list whose pages ``fetch`` gets."""
    return AsyncPaginator(fetch)
