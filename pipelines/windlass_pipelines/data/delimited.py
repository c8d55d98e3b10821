"""Reads CSV (RFC 4180) and TSV; both quote with ``"``, as usual writers of either do. The first row is the header."""

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Self

from windlass_pipelines.data.findings import FileFindings, name_list
from windlass_pipelines.data.sources import Line, UnreadableError
from windlass_pipelines.data.tables import Record, Table

_MAX_COLUMNS = 1000


class _RecordTooLongError(Exception):
    pass


class _Feed:
    """Hands lines to the csv reader, which joins them while a quote is open, and bounds what it joins."""

    def __init__(self, lines: Iterator[Line], limit: int) -> None:
        self._lines, self._limit = lines, limit
        self._size = 0
        self._last: Line | None = None
        self.start = 1

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if not self._size:
            self.start = line.number
        self._last = line
        self._size += len(line.text) + 1
        if self._size > self._limit:
            raise _RecordTooLongError
        return line.text + "\n"

    def begin_record(self) -> None:
        self._size = 0

    @property
    def cut(self) -> bool:
        """Whether the line read last is the file's last and has no line end."""
        return self._last is not None and not self._last.ended


def open_delimited(lines: Iterator[Line], delimiter: str, limit: int, findings: FileFindings) -> Table:
    """Open the lines of a file; ``limit`` bounds one record, in characters.

    Raises:
        UnreadableError: no header, or one that is broken, too wide or names a column twice.
    """
    csv.field_size_limit(limit)
    rows = _rows(_Feed(lines, limit), delimiter, findings)
    header = next(rows, None)
    if header is None:
        raise UnreadableError("empty-file", "the file has no header row", action="put column names in the first row")
    columns = tuple(name.strip() for name in header[1])
    if len(columns) > _MAX_COLUMNS:
        raise UnreadableError("too-many-columns", f"the header has {len(columns):,} columns, {_MAX_COLUMNS:,} are read")
    if twice := tuple(name for name, count in Counter(columns).items() if count > 1 and name):
        raise UnreadableError("duplicate-column", f"the header names a column twice: {name_list(twice)}", line=1)
    return Table(columns, lambda _wanted: _records(rows, columns, findings))


def _records(
    rows: Iterator[tuple[int, list[str], bool]], columns: tuple[str, ...], findings: FileFindings
) -> Iterator[Record]:
    for number, values, cut in rows:
        if len(values) == len(columns):
            yield number, dict(zip(columns, values, strict=True))
        elif cut and len(values) < len(columns):
            message = f"the last row has {len(values)} of {len(columns)} fields and no line end"
            findings.add("error", "truncated-file", message, line=number, action="upload the whole file")
        else:
            message = f"the row has {len(values):,} fields, the header has {len(columns)}"
            action = "put fields that hold the separator or a line break in double quotes"
            findings.add("error", "ragged-row", message, line=number, action=action)


def _rows(feed: _Feed, delimiter: str, findings: FileFindings) -> Iterator[tuple[int, list[str], bool]]:
    """Yield (line number, fields, whether the file ended without a line end)."""
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin_record()
        try:
            values = next(reader)
        except StopIteration:
            return
        except _RecordTooLongError:
            # Where the record ends is unknown, so whatever follows would be misread.
            raise UnreadableError(
                "broken-quotes",
                "a row is over the line limit: a quote that opens here is never closed, or the row is too long",
                action='write a quote inside a quoted field as ""',
                line=feed.start,
            ) from None
        except csv.Error:
            _broken(feed, findings)
            continue
        if values:
            yield feed.start, values, feed.cut


def _broken(feed: _Feed, findings: FileFindings) -> None:
    if feed.cut:
        message = "the file ends inside a quoted field that begins in this row: broken quotes, or the file was cut"
        findings.add("error", "truncated-file", message, line=feed.start, action="upload the whole file")
    else:
        action = 'write a quote inside a quoted field as ""'
        findings.add("error", "broken-quotes", "the quotes do not match", line=feed.start, action=action)
