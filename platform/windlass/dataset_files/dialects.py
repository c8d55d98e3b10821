"""Detects the delimiter and the quoting of a delimited file from its begin."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from windlass.dataset_files.tables import MAX_COLUMNS
from windlass.domain.ingest import IngestOptions, Quoting

_DELIMITERS = ",;\t|"
"""Delimiters to detect; of equally consistent ones the first is used."""
_SAMPLE_ROWS = 1000
_SEPARATOR_LINE = re.compile(r"sep=(.)(?:\r\n|\n|\r|\Z)", re.IGNORECASE)
_MAX_NAME, _MAX_WORDS = 60, 6


@dataclass(frozen=True)
class Dialect:
    """How the rows of a delimited file are written."""

    delimiter: str
    quoting: Quoting
    separator_line: bool = False
    """Whether the first line is Excel's ``sep=;``."""
    has_header: bool = True
    """False if the first row looks like the other rows."""


def detect_dialect(sample: str, options: IngestOptions, *, complete: bool, default: str | None) -> Dialect:
    """Return the dialect of the file that begins with ``sample``.

    The options take precedence over Excel's ``sep=`` line, and that over ``default`` and the detection.
    """
    separator = _SEPARATOR_LINE.match(sample)
    lines = re.split(r"\r\n|\n|\r", sample[separator.end() :] if separator else sample)
    if not complete and len(lines) > 1:
        lines.pop()
    lines = lines[:_SAMPLE_ROWS]
    delimiter = options.delimiter or (separator[1] if separator else default) or _detect_delimiter(lines)
    quoting = options.quoting or (_detect_tab_quoting(lines) if delimiter == "\t" else Quoting.MINIMAL)
    rows = list(_sample_rows(lines, delimiter, quoting))
    return Dialect(delimiter, quoting, separator is not None, has_header=_has_header(rows))


def _sample_rows(lines: Sequence[str], delimiter: str, quoting: Quoting) -> Iterator[list[str]]:
    """Yield the fields of the rows up to the first row that cannot be parsed, without blank rows."""
    if quoting is Quoting.NONE:
        yield from (line.split(delimiter) for line in lines if line)
        return
    try:
        yield from filter(None, csv.reader((line + "\n" for line in lines), delimiter=delimiter))
    except csv.Error:
        return


def _detect_delimiter(lines: Sequence[str]) -> str:
    return max(_DELIMITERS, key=lambda char: (_consistency(lines, char), -_DELIMITERS.index(char)))


def _consistency(lines: Sequence[str], delimiter: str) -> float:
    """Return the share of rows with as many fields as the first one; 0 if the delimiter does not separate it."""
    quoting = Quoting.NONE if delimiter == "\t" else Quoting.MINIMAL
    rows = list(_sample_rows(lines, delimiter, quoting))
    if not rows or len(rows[0]) == 1:
        return 0.0
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows)


def _detect_tab_quoting(lines: Sequence[str]) -> Quoting:
    """Spreadsheets and pandas quote tab-separated fields, corpora do not: quotes count if the sample proves it."""
    plain = list(_sample_rows(lines, "\t", Quoting.NONE))
    if not plain:
        return Quoting.NONE
    if any(_is_quoted(name) for name in plain[0]):
        return Quoting.MINIMAL
    fields = [field for row in plain for field in row]
    with_quotes = [field for field in fields if '"' in field]
    if with_quotes and all(map(_is_quoted, with_quotes)):
        doubled = any('""' in field[1:-1] for field in with_quotes)
        # Excel quotes exactly the fields with a comma or a quote.
        excel = all("," in field for field in with_quotes) and all(map(_is_quoted, (f for f in fields if "," in f)))
        return Quoting.MINIMAL if doubled or excel else Quoting.NONE
    if any(len(row) != len(plain[0]) for row in plain) and _is_consistent_with_quotes(lines, len(plain[0])):
        return Quoting.MINIMAL
    return Quoting.NONE


def _is_quoted(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")


def _is_consistent_with_quotes(lines: Sequence[str], width: int) -> bool:
    """Whether strict parsing with quotes gives every row the width; the sample may cut the last row."""
    rows = csv.reader((line + "\n" for line in lines), delimiter="\t", strict=True)
    try:
        return all(len(row) == width for row in rows if row)
    except csv.Error:
        return rows.line_num == len(lines)


def _has_header(rows: Sequence[list[str]]) -> bool:
    """Whether the names of the first row are short and none is a value of its own column."""
    if not rows or len(rows[0]) > MAX_COLUMNS:
        return True
    header, values = rows[0], rows[1:]
    return not any(
        len(name) > _MAX_NAME
        or len(name.split()) > _MAX_WORDS
        or any(row[number : number + 1] == [name] for row in values)
        for number, name in enumerate(header)
        if name.strip()
    )
