"""Pages of lists; ``windlass.sdk._async.pages`` is the counterpart."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from windlass.sdk.page_items import PageItems
from windlass.wire.base import Page

T = TypeVar("T")


class CursorPage(PageItems[T]):
    """One page of a list. Iteration yields the items of this page and of all later ones."""

    def __init__(self, page: Page[T], fetch: Callable[[str | None], Page[T]]) -> None:
        super().__init__(page.items, page.next_cursor)
        self._fetch = fetch

    def next_page(self) -> "CursorPage[T] | None":
        """Get the next page; None on the last page."""
        if self.next_cursor is None:
            return None
        return CursorPage(self._fetch(self.next_cursor), self._fetch)

    def __iter__(self) -> Iterator[T]:
        """Yield the items of this page and of all later ones."""
        page: CursorPage[T] | None = self
        while page is not None:
            yield from page.items
            page = page.next_page()


def paginate(fetch: Callable[[str | None], Page[T]]) -> CursorPage[T]:
    """Get the first page of the list whose pages ``fetch`` gets."""
    return CursorPage(fetch(None), fetch)
