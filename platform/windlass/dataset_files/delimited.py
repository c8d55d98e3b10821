"""Reads delimited text: CSV (RFC 4180) and tab-separated text, with or without quotes. The first row is the header."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Self

from windlass.dataset_files.dialects import Dialect
from windlass.dataset_files.findings import FileFindings, name_list
from windlass.dataset_files.lines import Line
from windlass.dataset_files.streams import UnreadableError
from windlass.dataset_files.tables import MAX_COLUMNS, Record
from windlass.domain.ingest import Quoting

_QUOTE_ACTION = 'write a quote inside a quoted field as "", or set the option quoting to none'
_SUSPICIOUS_LINES = 3
"""Physical lines of a record, each with the fields of a row, from which on an open quote is the likely cause."""
_MAX_LABELS, _MAX_LABEL = 1000, 200
"""Distinct values, and characters of a value, up to which a column can be one of labels."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the number of its first line, and its fields (none: a blank line)."""

    line: int
    fields: list[str]
    cut: bool
    """Whether the file ends in this row without a line end."""


class _RecordTooLongError(Exception):
    pass


class _Feed:
    """Iterator of lines for ``csv.reader``; limits the length of a record that spans lines in open quotes."""

    def __init__(self, lines: Iterator[Line], limit: int) -> None:
        self._lines, self._limit = lines, limit
        self._size = 0
        self._last: Line | None = None
        self.start = 1
        self.texts: list[str] = []
        """The physical lines of the record."""

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
        self.texts.append(line.text.removesuffix("\r"))
        return line.text + "\n"

    def begin_record(self) -> None:
        self._size = 0
        self.texts.clear()

    @property
    def cut(self) -> bool:
        """Whether the last line read is the end of the file and has no line end."""
        return self._last is not None and not self._last.ended


class _Labels:
    """Distinct values of a column, as long as they can be labels: few and short."""

    def __init__(self) -> None:
        self._values: set[str] | None = set()

    def add(self, value: str) -> None:
        """Add a value."""
        if self._values is not None:
            self._values.add(value)
            if len(value) > _MAX_LABEL or len(self._values) > _MAX_LABELS:
                self._values = None

    def __contains__(self, value: str) -> bool:
        return self._values is not None and value in self._values


class _OuterColumns:
    """The labels of the first and the last column, to recognise lines that look like rows."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._first, self._last = _Labels(), _Labels()

    def add(self, fields: list[str]) -> None:
        """Add the values of a row."""
        self._first.add(fields[0])
        self._last.add(fields[-1])

    def look_merged(self, lines: list[str], width: int) -> bool:
        """Whether the lines of a record look like rows: they have the delimiters of one, or begin or end like one."""
        if width == 1:
            return False
        whole = all(line.count(self._delimiter) == width - 1 for line in lines)
        begin = all(self._has_label(line.partition(self._delimiter), 0, self._first) for line in lines[1:])
        end = all(self._has_label(line.rpartition(self._delimiter), 2, self._last) for line in lines[:-1])
        return (whole and len(lines) >= _SUSPICIOUS_LINES) or begin or end

    @staticmethod
    def _has_label(parts: tuple[str, str, str], position: int, labels: _Labels) -> bool:
        return bool(parts[1]) and parts[position] in labels


def open_delimited(
    lines: Iterator[Line], dialect: Dialect, limit: int, findings: FileFindings, *, header: bool
) -> tuple[tuple[str, ...], Iterator[Record]]:
    """Return the columns and the records of a file; ``limit`` is the maximum length of one record, in characters.

    Without ``header``, the first row is a record, and the names of the columns are numbers from 1.

    Raises:
        UnreadableError: the header is missing, invalid, too wide, or has duplicate columns.
    """
    rows: Iterator[Row] = (row for row in split_rows(lines, dialect, limit, findings) if row.fields)
    first = next(rows, None)
    if first is None:
        raise UnreadableError("empty-file", "the file has no rows", action="upload a file with rows")
    if header:
        columns = tuple(name.strip() for name in first.fields)
    else:
        columns = tuple(str(number + 1) for number in range(len(first.fields)))
        rows = chain([first], rows)
    if len(columns) > MAX_COLUMNS:
        raise UnreadableError(
            "too-many-columns", f"the first row has {len(columns):,} columns, the limit is {MAX_COLUMNS:,}"
        )
    if duplicates := tuple(name for name, count in Counter(columns).items() if count > 1 and name):
        raise UnreadableError(
            "duplicate-column", f"duplicate columns in the header: {name_list(duplicates)}", line=first.line
        )
    return columns, _records(rows, columns, dialect, findings)


def _records(
    rows: Iterator[Row], columns: tuple[str, ...], dialect: Dialect, findings: FileFindings
) -> Iterator[Record]:
    for row in rows:
        if len(row.fields) == len(columns):
            yield row.line, dict(zip(columns, row.fields, strict=True))
        elif row.cut and len(row.fields) < len(columns):
            message = f"the last row has {len(row.fields)} of {len(columns)} fields and no line end"
            findings.add("error", "truncated-file", message, line=row.line, action="upload the whole file")
        else:
            message = f"the row has {len(row.fields):,} fields, the first row has {len(columns)}"
            quoted = dialect.quoting is Quoting.MINIMAL
            action = "quote fields that contain the delimiter or a line break"
            action += "" if quoted else ", and set the option quoting to minimal"
            findings.add("error", "ragged-row", message, line=row.line, action=action)


def split_rows(lines: Iterator[Line], dialect: Dialect, limit: int, findings: FileFindings) -> Iterator[Row]:
    """Yield the rows, with the header and blank lines; add a finding for each row that cannot be parsed.

    Raises:
        UnreadableError: a row exceeds ``limit`` characters.
    """
    lines = islice(lines, 1, None) if dialect.separator_line else lines
    if dialect.quoting is Quoting.NONE:
        return _plain_rows(lines, dialect)
    return _quoted_rows(lines, dialect, limit, findings)


def _plain_rows(lines: Iterator[Line], dialect: Dialect) -> Iterator[Row]:
    """Yield the rows of a file in which a quote is an ordinary character: one per line."""
    for line in lines:
        text = line.text.removesuffix("\r")
        yield Row(line.number, text.split(dialect.delimiter) if text else [], cut=not line.ended)


def _quoted_rows(lines: Iterator[Line], dialect: Dialect, limit: int, findings: FileFindings) -> Iterator[Row]:
    csv.field_size_limit(limit)
    feed = _Feed(lines, limit)
    outer = _OuterColumns(dialect.delimiter)
    reader = csv.reader(feed, delimiter=dialect.delimiter, strict=True)
    multi_line: list[int] = []
    count = 0
    while True:
        feed.begin_record()
        try:
            values = next(reader)
        except StopIteration:
            break
        except _RecordTooLongError:
            # The end of the record is unknown, so the rest of the file cannot be parsed.
            message = "the row exceeds the line limit: it is too long, or a quote is never closed"
            raise UnreadableError("broken-quotes", message, action=_QUOTE_ACTION, line=feed.start) from None
        except csv.Error as error:
            _add_parse_error(str(error), feed, findings)
            continue
        if len(feed.texts) > 1:
            count += 1
            multi_line = multi_line or [feed.start]
            if outer.look_merged(feed.texts, len(values)):
                _add_merged(feed, findings)
        elif values:
            outer.add(values)
        yield Row(feed.start, values, feed.cut)
    if count:
        message = f"{count:,} rows contain a line break within quotes; the first is at this line"
        findings.add("info", "multi-line-rows", message, line=multi_line[0], count=count)


def _add_merged(feed: _Feed, findings: FileFindings) -> None:
    message = f"{len(feed.texts):,} lines were read as one row: a quote opens in the first and closes in the last"
    findings.add("warning", "merged-lines", message, line=feed.start, action=_QUOTE_ACTION)


def _add_parse_error(reason: str, feed: _Feed, findings: FileFindings) -> None:
    """Add a finding for an error of ``csv.reader``, which is distinguished by its message only."""
    if reason.startswith("unexpected end of data"):
        message = "the file ends inside a quoted field that begins in this row"
        code, action = ("truncated-file", "upload the whole file") if feed.cut else ("broken-quotes", _QUOTE_ACTION)
        findings.add("error", code, message, line=feed.start, action=action)
    elif reason.startswith("new-line character"):
        message = "the row contains a carriage return outside of quotes, but the lines of the file end with a line feed"
        action = "quote the field, or end every line in the same way"
        findings.add("error", "stray-carriage-return", message, line=feed.start, action=action)
    elif reason.startswith("field larger"):
        findings.add("error", "line-too-long", "a field is longer than allowed", line=feed.start)
    else:
        message = "a quoted field is followed by other characters than the delimiter"
        findings.add("error", "broken-quotes", message, line=feed.start, action=_QUOTE_ACTION)
