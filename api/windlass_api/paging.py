"""Pages over keyset cursors: one more item than asked tells whether there is a next page."""

from collections.abc import Callable
from typing import TypeVar

from windlass.wire.base import Page
from windlass_api.dependencies import decode_cursor, decode_number, encode_cursor

F = TypeVar("F")
T = TypeVar("T")


def paged(
    fetch: Callable[[int, str | None], list[F]],
    limit: int,
    cursor: str | None,
    key: Callable[[F], str | int],
    out: Callable[[F], T],
) -> Page[T]:
    """Return the page behind ``cursor``: ``fetch`` gets a limit and the last key, ``key`` names an item's key."""
    return _page(fetch(limit + 1, decode_cursor(cursor)), limit, key, out)


def counted(
    fetch: Callable[[int, int | None], list[F]],
    limit: int,
    cursor: str | None,
    key: Callable[[F], int],
    out: Callable[[F], T],
) -> Page[T]:
    """Return the page behind ``cursor`` of a list whose keys are numbers."""
    return _page(fetch(limit + 1, decode_number(cursor)), limit, key, out)


def _page(found: list[F], limit: int, key: Callable[[F], str | int], out: Callable[[F], T]) -> Page[T]:
    shown = found[:limit]
    following = encode_cursor(key(shown[-1])) if len(found) > limit else None
    return Page(items=[out(item) for item in shown], next_cursor=following)
