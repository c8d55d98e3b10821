"""Keyset pagination: one extra item is fetched to detect a next page."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from windlass.wire.base import Page
from windlass_api.dependencies import decode_cursor, decode_number, encode_cursor

F = TypeVar("F")
T = TypeVar("T")


def paginate(
    fetch: Callable[[int, str | None], list[F]],
    limit: int,
    cursor: str | None,
    key: Callable[[F], str | int],
    out: Callable[[F], T],
) -> Page[T]:
    """Return the page at ``cursor``: ``fetch`` takes a limit and the last key, ``key`` returns the key of an item."""
    return _page(fetch(limit + 1, decode_cursor(cursor)), limit, key, out)


def paginate_by_number(
    fetch: Callable[[int, int | None], list[F]],
    limit: int,
    cursor: str | None,
    key: Callable[[F], int],
    out: Callable[[F], T],
) -> Page[T]:
    """Return the page at ``cursor`` of a list whose keys are numbers."""
    return _page(fetch(limit + 1, decode_number(cursor)), limit, key, out)


def paginate_items(
    items: Iterable[F], limit: int, cursor: str | None, key: Callable[[F], str], out: Callable[[F], T]
) -> Page[T]:
    """Return the page at ``cursor`` of a list that the service returns as a whole; ordered by ``key``."""
    after = decode_cursor(cursor)
    rest = sorted((item for item in items if after is None or key(item) > after), key=key)
    return _page(rest[: limit + 1], limit, key, out)


def _page(items: list[F], limit: int, key: Callable[[F], str | int], out: Callable[[F], T]) -> Page[T]:
    page = items[:limit]
    next_cursor = encode_cursor(key(page[-1])) if len(items) > limit else None
    return Page(items=[out(item) for item in page], next_cursor=next_cursor)
