"""CSV and TSV."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from windlass.cli.record_files.base import MAX_FIELD, Content, FileRecord, ReadOptions, RecordFile
from windlass.dataset_files.delimited import Row, split_rows
from windlass.dataset_files.dialects import detect_dialect
from windlass.dataset_files.lines import detect_line_end
from windlass.domain.errors import InvalidError
from windlass.domain.ingest import Encoding, IngestOptions, Quoting
from windlass.kit.spreadsheets import escape_formula

_UNPRINTED_IN_PLAIN = str.maketrans("\t\r\n", "   ")


class DelimitedFile(RecordFile):
    """CSV or TSV with a header. The output is UTF-8, with the delimiter and the quoting of the file."""

    def __init__(self, content: Content, options: ReadOptions, added: Sequence[str], delimiter: str | None) -> None:
        super().__init__(content.path, options, added)
        self._content = content
        ingest = IngestOptions(delimiter=options.delimiter)
        self._dialect = detect_dialect(content.begin, ingest, complete=content.is_whole, default=delimiter)
        self._delimiter = self._dialect.delimiter
        content.line_end = detect_line_end(content.begin, quoted=self._dialect.quoting is Quoting.MINIMAL)
        self._newline = "\r\n" if content.begin.partition("\n")[0].endswith("\r") else "\n"
        first = next(self._rows(), None)
        self._header = first.fields if first else []
        self._column = self._find_column()
        self._index = self._header.index(self._column)

    def _find_column(self) -> str:
        names = ", ".join(self._header)
        if not self._header:
            raise InvalidError(f"{self.path} is empty", hint="its first line must have the names of the columns")
        looks_unsplit = len(self._header) == 1 and any(mark in names for mark in ";\t|,")
        only = self._header[0] if len(self._header) == 1 and not looks_unsplit else "text"
        column = self._options.column or only
        if column not in self._header:
            raise InvalidError(
                f"{self.path} has no column {column}; it has: {names}",
                hint="name the character between its columns, for example --delimiter ';'"
                if looks_unsplit
                else "name the column of the texts: --column text=COLUMN",
            )
        if self._header.count(column) > 1:
            raise InvalidError(f"{self.path} has several columns {column}", hint="rename all but one of them")
        taken = sorted(set(self._header) & set(self._added))
        if taken:
            raise InvalidError(f"{self.path} already has a column {taken[0]}", hint="choose another --prefix")
        return column

    def records(self) -> Iterator[FileRecord]:
        """Read the rows after the header; a blank line is a row of empty fields."""
        width = len(self._header)
        rows = self._rows()
        next(rows, None)
        for row in rows:
            cells = row.fields or [""] * width
            if len(cells) != width:
                raise InvalidError(
                    f"line {row.line} of {self.path} has {len(cells)} fields, its header has {width}",
                    hint="quote fields that contain the delimiter or line breaks",
                )
            place = f"line {row.line}"
            yield FileRecord(self._text(cells[self._index], place), self._encode(cells), place)

    def header(self) -> bytes:
        """Return the header with the added columns."""
        utf_16 = self._content.encoding in {Encoding.UTF_16LE, Encoding.UTF_16BE}
        with self.path.open("rb") as stream:
            has_mark = utf_16 or stream.read(3) == codecs.BOM_UTF8  # spreadsheets recognise UTF-8 by the mark
        separator = f"sep={self._delimiter}{self._newline}" if self._dialect.separator_line else ""
        begin = (codecs.BOM_UTF8 if has_mark else b"") + separator.encode()
        return begin + self._encode(self._header) + self._suffix(self._added)

    def _suffix(self, values: Sequence[Any]) -> bytes:
        """Return the added fields; an absent value is empty."""
        cells = [str(value).lower() if isinstance(value, bool) else value for value in values]
        return self._delimiter.encode() + self._encode(cells) + self._newline.encode()

    def read_suffix(self, stream: BinaryIO) -> list[Any] | None:
        """Read up to the end of the line; a line break within quotes belongs to a field."""
        suffix = stream.readline()
        quoted = self._dialect.quoting is Quoting.MINIMAL
        while quoted and suffix.count(b'"') % 2 and (more := stream.readline()):
            suffix += more
        complete = suffix.endswith(b"\n") and not (quoted and suffix.count(b'"') % 2)
        if not complete or not suffix.startswith(self._delimiter.encode()):
            return None
        text = suffix.decode(errors="replace")
        if not quoted:
            return text.rstrip("\r\n").split(self._delimiter)[1:]
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter))[1:]

    def _rows(self) -> Iterator[Row]:
        findings = self._content.findings()
        with self._content.errors():
            for row in split_rows(self._content.lines(findings), self._dialect, MAX_FIELD, findings):
                self._content.check(findings)
                yield row
        self._content.check(findings)
        self.warnings = self._content.warnings(findings)

    def _encode(self, cells: Sequence[Any]) -> bytes:
        line = io.StringIO(newline="")
        escaped = [self._escape(cell) for cell in cells]
        if self._dialect.quoting is Quoting.NONE:
            plain = ("" if cell is None else str(cell).translate(_UNPRINTED_IN_PLAIN) for cell in escaped)
            return self._delimiter.join(plain).encode()
        # The writer quotes a cell with a line break only if its own line terminator has that character.
        csv.writer(line, delimiter=self._delimiter, lineterminator="\r\n").writerow(escaped)
        return line.getvalue().removesuffix("\r\n").encode()

    def _escape(self, cell: Any) -> Any:
        """Prefix a cell that a spreadsheet would run as a formula; numbers are none."""
        return escape_formula(cell) if self._options.escape_formulas and isinstance(cell, str) else cell
