"""Reads pages of a split's rows: bounded in rows and in bytes, whatever the rows contain."""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from windlass.domain.errors import BadRequestError

PAGE_BYTES = 4 << 20
"""A page ends after the row that reaches this size."""
MAX_CELL_CHARACTERS = 64 << 10
MAX_LINE_BYTES = 64 << 20
"""A value of 4 MiB of control characters has 24 MiB in the internal form."""
SCAN_BYTES = 16 << 20
"""A page ends after the row that reaches this size, also if few rows match its filter, or none."""
_MAX_OFFSET_DIGITS = 15
_INVALID_CURSOR = "invalid cursor"


@dataclass(frozen=True)
class TruncatedCell:
    """A text that is not complete: index of its row, JSON pointer (empty: the whole row), length in characters."""

    item: int
    pointer: str
    characters: int


@dataclass(frozen=True)
class RowFilter:
    """Which rows are read."""

    label: str | None = None
    """Rows with exactly this label."""
    text: str = ""
    """Rows with a value that contains this, in lower or upper case."""

    @property
    def is_empty(self) -> bool:
        """Whether all rows match."""
        return self.label is None and not self.text

    def matches(self, row: dict[str, Any]) -> bool:
        """Return whether a complete row matches."""
        if self.label is not None and row.get("label") != self.label:
            return False
        return not self.text or _contains(row, self.text.casefold())


@dataclass(frozen=True)
class RowPage:
    """Some rows, and the cursor of the next ones: an encoded byte offset, None at the end."""

    rows: list[dict[str, Any]]
    truncated: list[TruncatedCell]
    next_cursor: str | None


ALL_ROWS = RowFilter()


def read_page(stream: BinaryIO, limit: int, cursor: str | None, wanted: RowFilter = ALL_ROWS) -> RowPage:
    """Read up to ``limit`` rows of a JSONL file that match, and fewer when they reach ``PAGE_BYTES``.

    Texts longer than ``MAX_CELL_CHARACTERS`` are cut after the comparison; a row longer than ``MAX_LINE_BYTES`` is
    empty, and matches no filter. With a filter a page may have no row and a cursor: the next rows were not searched.

    Raises:
        BadRequestError: the cursor does not belong to this file.
    """
    rows: list[dict[str, Any]] = []
    truncated: list[TruncatedCell] = []
    _seek_row(stream, _decode_offset(cursor))
    taken = scanned = 0
    while len(rows) < limit and taken < PAGE_BYTES and scanned < SCAN_BYTES:
        line = stream.readline(MAX_LINE_BYTES)
        if not line:
            break
        scanned += len(line)
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            length = len(line) + _skip_line(stream)
            scanned += length - len(line)
            if wanted.is_empty:
                taken += len(line)
                truncated.append(TruncatedCell(len(rows), "", length))
                rows.append({})
            continue
        row = json.loads(line)
        if not wanted.matches(row):
            continue
        taken += len(line)
        truncated += [TruncatedCell(len(rows), pointer, length) for pointer, length in _truncate(row, "")]
        rows.append(row)
    more = bool(stream.read(1))
    offset = stream.tell() - 1
    return RowPage(rows, truncated, base64.urlsafe_b64encode(b"%d" % offset).decode() if more else None)


def _contains(node: Any, text: str) -> bool:
    """Return whether a value below ``node`` contains a text; numbers are compared as JSON has them."""
    if isinstance(node, dict | list):
        return any(_contains(value, text) for value in (node.values() if isinstance(node, dict) else node))
    return text in (node if isinstance(node, str) else json.dumps(node)).casefold()


def _truncate(node: Any, pointer: str) -> Iterator[tuple[str, int]]:
    """Cut the long texts below ``node`` in place; yield the pointer and the length of each. Rows nest few levels."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        path = f"{pointer}/{key}"
        if isinstance(value, str) and len(value) > MAX_CELL_CHARACTERS:
            node[key] = value[:MAX_CELL_CHARACTERS]
            yield path, len(value)
        else:
            yield from _truncate(value, path)


def _skip_line(stream: BinaryIO) -> int:
    skipped = 0
    while chunk := stream.readline(1 << 20):
        skipped += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return skipped


def _decode_offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadRequestError.field("/query/cursor", _INVALID_CURSOR) from error
    if not text.isdigit() or len(text) > _MAX_OFFSET_DIGITS:
        raise BadRequestError.field("/query/cursor", _INVALID_CURSOR)
    return int(text)


def _seek_row(stream: BinaryIO, offset: int) -> None:
    """Seek to a row's first byte. Rows are lines, so the byte before it must be a newline."""
    stream.seek(max(0, offset - 1))
    if offset and stream.read(1) != b"\n":
        raise BadRequestError.field("/query/cursor", _INVALID_CURSOR)
