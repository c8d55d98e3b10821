"""The items of one page of a list: indexing, and how consoles and notebooks show them."""

from collections.abc import Sequence
from enum import Enum
from html import escape
from typing import Generic, TypeVar, overload

from pydantic import BaseModel

T = TypeVar("T")

_MAX_COLUMNS = 8
_MAX_CELL = 60


class PageItems(Generic[T]):
    """The items of a page; ``next_cursor`` is None on the last page."""

    def __init__(self, items: Sequence[T], next_cursor: str | None) -> None:
        self.items = [*items]
        self.next_cursor = next_cursor

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        """Return an item of this page."""
        return self.items[index]

    def __bool__(self) -> bool:
        """Return whether the page has items."""
        return bool(self.items)

    def __repr__(self) -> str:
        more = ", more pages follow" if self.next_cursor else ""
        return f"<{type(self).__name__}: {len(self.items)} items{more}>"

    def _repr_html_(self) -> str:
        """Return the items as an HTML table, for notebooks."""
        rows = [_cells(item) for item in self.items]
        columns = list(dict.fromkeys(name for row in rows for name in row))[:_MAX_COLUMNS]
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(row.get(name, ''))}</td>" for name in columns) + "</tr>" for row in rows
        )
        more = "<p>More pages follow.</p>" if self.next_cursor else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cells(item: object) -> dict[str, str]:
    """Return the plain values of an item as text."""
    values = dict(item) if isinstance(item, BaseModel | dict) else {"value": item}
    plain = {name: value for name, value in values.items() if not isinstance(value, BaseModel | dict | list | tuple)}
    return {str(name): _text(value) for name, value in plain.items()}


def _text(value: object) -> str:
    text = "" if value is None else str(value.value if isinstance(value, Enum) else value)
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}..."
